//! Addresses of nodes, as people write them.

use serde::Deserialize;

/// A host and a port in a settings file; an error is reported with its line.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Address(pub(super) String);

/// A text is not an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an address; expected HOST:PORT, like 127.0.0.1:3001")]
pub(super) struct ParseAddressError(String);

impl TryFrom<String> for Address {
    type Error = ParseAddressError;
    fn try_from(text: String) -> Result<Address, ParseAddressError> {
        host_and_port(&text).map(Address)
    }
}

/// Checks the form only. Whether the host exists and listens shows when the address is used.
pub(super) fn host_and_port(text: &str) -> Result<String, ParseAddressError> {
    let no_address = ParseAddressError(text.to_owned());
    let Some((host, port)) = text.rsplit_once(':') else { return Err(no_address) };
    // Without brackets, the last part of an IPv6 address would be taken for a port.
    let bracketed = host.starts_with('[') && host.ends_with(']');
    // An empty host is no address to connect to.
    let is_host = !host.is_empty() && (bracketed || !host.contains(':'));
    match port.parse::<u16>() {
        Ok(_) if is_host => Ok(text.to_owned()),
        Ok(_) | Err(_) => Err(no_address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_a_port_that_exists() {
        for text in ["127.0.0.1:3001", "localhost:1", "[::1]:65535"] {
            assert_eq!(host_and_port(text).as_deref(), Ok(text));
        }
        for text in
            ["", "127.0.0.1", ":3001", "localhost:", "localhost:65536", "localhost:x", "::1"]
        {
            let error = host_and_port(text).expect_err(text).to_string();
            assert!(error.contains("expected HOST:PORT"), "{error}");
        }
    }
}
