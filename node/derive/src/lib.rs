//! `#[derive(Label)]`, re-exported by `stormglass-node` and documented there.

mod attributes;
mod expand;

/// Implements the trait `Label`: kind, subjects and detail of a message, request, response or
/// event. See `stormglass_node::Label`.
#[proc_macro_derive(Label, attributes(label))]
pub fn derive_label(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let input = syn::parse_macro_input!(input as syn::DeriveInput);
    expand::expand(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}
