//! Frames from the network: every packet of a connection decodes or is refused, never panics, and
//! a value that decodes is encoded to a frame that decodes to it again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;
use stormglass::commit::{Message, Request, Response};
use stormglass_node::runtime::packet::{
    ClientPacket, ClientReply, Hello, PeerPacket, PeerReply, Welcome,
};
use stormglass_node::wire;

fn decodes_again<T: Serialize + DeserializeOwned>(frame: &[u8]) {
    if let Ok(value) = wire::decode_frame::<T>(frame) {
        let again = wire::encode_frame(&value);
        let value = wire::decode_frame::<T>(&again).expect("its own frame");
        assert_eq!(wire::encode_frame(&value), again);
    }
}

fuzz_target!(|payload: &[u8]| {
    let _ = wire::frame_len(payload);
    decodes_again::<Hello>(payload);
    // With a checksum that fits, or hardly any input would come as far as the packets.
    let frame = wire::frame_payload(payload);
    decodes_again::<Hello>(&frame);
    decodes_again::<Welcome>(&frame);
    decodes_again::<PeerPacket<Message>>(&frame);
    decodes_again::<PeerReply>(&frame);
    decodes_again::<ClientPacket<Request>>(&frame);
    decodes_again::<ClientReply<Response>>(&frame);
});
