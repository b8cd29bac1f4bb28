//! Golden vectors, round trips and malformed input for every structure of the crate.

mod golden;
mod iscsi;
mod iscsi_rows;
mod malformed;
mod nvme_rows;
mod rdma;
mod roundtrip;
mod scsi;
mod scsi_copy;
mod spec_bytes;
mod tcp_rows;
mod values;
