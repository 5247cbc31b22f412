//! Generated code of the public speech API (`smallest.speech.v1`): messages, client and server of gRPC.
//!
//! The contract itself is `smallest/speech/v1/recognize.proto`; nothing is written by hand here.
//! Health is the standard `grpc.health.v1` service, from the `tonic-health` crate.

/// Encoded `FileDescriptorSet` of the public API, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The speech API, version 1.
pub mod speech {
    /// `smallest.speech.v1`.
    #[allow(missing_docs, clippy::pedantic, reason = "generated from the proto files, which hold the docs")]
    pub mod v1 {
        tonic::include_proto!("smallest.speech.v1");
    }
}
