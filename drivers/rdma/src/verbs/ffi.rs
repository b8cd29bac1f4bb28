//! The binary interface of libibverbs and librdmacm, as far as it is used here.
//!
//! Only types: what they are in C is named at each. Enumerations are plain integers, since a newer
//! library may know more values than we do. The sizes and offsets below were measured with a C compiler
//! on the libraries' own headers and are checked when this file is compiled. They are fixed: old
//! programs run with new libraries, whose symbols carry versions.

use std::ffi::{c_int, c_uint, c_void};
use std::mem::{offset_of, size_of};

/// `struct ibv_context`: an open device.
#[repr(C)]
pub struct Context {
    pub device: *mut DeviceName,
    pub ops: ContextOps,
    pub cmd_fd: c_int,
    pub async_fd: c_int,
    pub num_comp_vectors: c_int,
    // A mutex and more, never touched here.
}

/// `struct ibv_context_ops`: what the inline functions of the header call. A provider fills it in.
#[repr(C)]
pub struct ContextOps {
    before_poll_cq: [*mut c_void; 11],
    pub poll_cq: unsafe extern "C" fn(*mut Cq, c_int, *mut WorkCompletion) -> c_int,
    pub req_notify_cq: unsafe extern "C" fn(*mut Cq, c_int) -> c_int,
    before_post_srq_recv: [*mut c_void; 7],
    pub post_srq_recv:
        unsafe extern "C" fn(*mut Srq, *mut ReceiveRequest, *mut *mut ReceiveRequest) -> c_int,
    before_post_send: [*mut c_void; 4],
    pub post_send: unsafe extern "C" fn(*mut Qp, *mut SendRequest, *mut *mut SendRequest) -> c_int,
    pub post_recv:
        unsafe extern "C" fn(*mut Qp, *mut ReceiveRequest, *mut *mut ReceiveRequest) -> c_int,
    after_post_recv: [*mut c_void; 5],
}

/// `struct ibv_device`, of which only the kernel's name of the device is read, by a function.
pub enum DeviceName {}
/// `struct ibv_pd`.
pub enum Pd {}

/// `struct ibv_mr`.
#[repr(C)]
pub struct Mr {
    pub context: *mut Context,
    pub pd: *mut Pd,
    pub addr: *mut c_void,
    pub length: usize,
    pub handle: u32,
    pub lkey: u32,
    pub rkey: u32,
}

/// `struct ibv_comp_channel`.
#[repr(C)]
pub struct CompChannel {
    pub context: *mut Context,
    pub fd: c_int,
    pub refcnt: c_int,
}

/// `struct ibv_cq`, as far as it is read.
#[repr(C)]
pub struct Cq {
    pub context: *mut Context,
    pub channel: *mut CompChannel,
    pub cq_context: *mut c_void,
    pub handle: u32,
    pub cqe: c_int,
}

/// `struct ibv_srq`, as far as it is read.
#[repr(C)]
pub struct Srq {
    pub context: *mut Context,
    pub srq_context: *mut c_void,
    pub pd: *mut Pd,
    pub handle: u32,
}

/// `struct ibv_qp`, as far as it is read.
#[repr(C)]
pub struct Qp {
    pub context: *mut Context,
    pub qp_context: *mut c_void,
    pub pd: *mut Pd,
    pub send_cq: *mut Cq,
    pub recv_cq: *mut Cq,
    pub srq: *mut Srq,
    pub handle: u32,
    pub qp_num: u32,
    pub state: c_uint,
    pub qp_type: c_uint,
}

/// `struct ibv_wc`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct WorkCompletion {
    pub wr_id: u64,
    pub status: c_uint,
    pub opcode: c_uint,
    pub vendor_err: u32,
    pub byte_len: u32,
    pub invalidated_rkey: u32,
    pub qp_num: u32,
    pub src_qp: u32,
    pub wc_flags: c_uint,
    pub pkey_index: u16,
    pub slid: u16,
    pub sl: u8,
    pub dlid_path_bits: u8,
}

/// `struct ibv_sge`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Sge {
    pub addr: u64,
    pub length: u32,
    pub lkey: u32,
}

/// `struct ibv_send_wr`, with the union of transports as a read or write uses it.
#[repr(C)]
pub struct SendRequest {
    pub wr_id: u64,
    pub next: *mut SendRequest,
    pub sg_list: *mut Sge,
    pub num_sge: c_int,
    pub opcode: c_uint,
    pub send_flags: c_uint,
    pub invalidate_rkey: u32,
    pub remote_addr: u64,
    pub rkey: u32,
    pub unused: [u64; 9],
}

/// `struct ibv_recv_wr`.
#[repr(C)]
pub struct ReceiveRequest {
    pub wr_id: u64,
    pub next: *mut ReceiveRequest,
    pub sg_list: *mut Sge,
    pub num_sge: c_int,
}

/// `struct ibv_srq_init_attr`.
#[repr(C)]
pub struct SrqInitAttr {
    pub srq_context: *mut c_void,
    pub max_wr: u32,
    pub max_sge: u32,
    pub srq_limit: u32,
}

/// `struct ibv_qp_init_attr`.
#[repr(C)]
pub struct QpInitAttr {
    pub qp_context: *mut c_void,
    pub send_cq: *mut Cq,
    pub recv_cq: *mut Cq,
    pub srq: *mut Srq,
    pub max_send_wr: u32,
    pub max_recv_wr: u32,
    pub max_send_sge: u32,
    pub max_recv_sge: u32,
    pub max_inline_data: u32,
    pub qp_type: c_uint,
    pub sq_sig_all: c_int,
}

/// `struct ibv_qp_attr`, of which only the state is written.
#[repr(C)]
pub struct QpAttr {
    pub qp_state: c_uint,
    pub unused: [u32; 35],
}

/// `struct ibv_device_attr`.
#[repr(C)]
pub struct DeviceAttr {
    pub before_max_qp: [u64; 13],
    pub hw_ver: u32,
    pub max_qp: c_int,
    pub max_qp_wr: c_int,
    pub device_cap_flags: c_uint,
    pub max_sge: c_int,
    pub max_sge_rd: c_int,
    pub max_cq: c_int,
    pub max_cqe: c_int,
    pub max_mr: c_int,
    pub max_pd: c_int,
    pub max_qp_rd_atom: c_int,
    pub max_ee_rd_atom: c_int,
    pub max_res_rd_atom: c_int,
    pub max_qp_init_rd_atom: c_int,
    pub before_max_srq: [c_int; 13],
    pub max_srq: c_int,
    pub max_srq_wr: c_int,
    pub max_srq_sge: c_int,
    pub after_max_srq_sge: [u32; 2],
}

/// `struct ibv_async_event`; `element` is a pointer or, for a port, its number.
#[repr(C)]
pub struct AsyncEvent {
    pub element: *mut c_void,
    pub event_type: c_uint,
}

/// `struct rdma_event_channel`.
#[repr(C)]
pub struct CmChannel {
    pub fd: c_int,
}

/// An address as `struct sockaddr_storage`.
pub type Address = libc::sockaddr_storage;

/// `struct rdma_cm_id`, as far as it is read.
#[repr(C)]
pub struct CmId {
    pub verbs: *mut Context,
    pub channel: *mut CmChannel,
    pub context: *mut c_void,
    pub qp: *mut Qp,
    pub source: Address,
    pub destination: Address,
    pub rest_of_route: [u64; 7],
    pub port_space: c_uint,
    pub port_num: u8,
}

/// `struct rdma_conn_param`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ConnParam {
    pub private_data: *const c_void,
    pub private_data_len: u8,
    pub responder_resources: u8,
    pub initiator_depth: u8,
    pub flow_control: u8,
    pub retry_count: u8,
    pub rnr_retry_count: u8,
    pub srq: u8,
    pub qp_num: u32,
}

/// `struct rdma_cm_event`, with the union as a connection uses it.
#[repr(C)]
pub struct CmEvent {
    pub id: *mut CmId,
    pub listen_id: *mut CmId,
    pub event: c_uint,
    pub status: c_int,
    pub conn: ConnParam,
}

const _: () = {
    assert!(offset_of!(Context, ops) == 8 && size_of::<ContextOps>() == 256);
    assert!(offset_of!(Context, cmd_fd) == 264 && offset_of!(Context, async_fd) == 268);
    assert!(offset_of!(ContextOps, poll_cq) == 88 && offset_of!(ContextOps, req_notify_cq) == 96);
    assert!(offset_of!(ContextOps, post_srq_recv) == 160);
    assert!(offset_of!(ContextOps, post_send) == 200 && offset_of!(ContextOps, post_recv) == 208);
    assert!(size_of::<Mr>() == 48 && offset_of!(Mr, lkey) == 36 && offset_of!(Mr, rkey) == 40);
    assert!(size_of::<CompChannel>() == 16 && offset_of!(CompChannel, fd) == 8);
    assert!(offset_of!(Cq, cqe) == 28 && offset_of!(Qp, qp_num) == 52);
    assert!(size_of::<WorkCompletion>() == 48 && offset_of!(WorkCompletion, qp_num) == 28);
    assert!(offset_of!(WorkCompletion, wc_flags) == 36 && size_of::<Sge>() == 16);
    assert!(size_of::<SendRequest>() == 128 && offset_of!(SendRequest, invalidate_rkey) == 36);
    assert!(offset_of!(SendRequest, remote_addr) == 40 && offset_of!(SendRequest, rkey) == 48);
    assert!(size_of::<ReceiveRequest>() == 32 && size_of::<SrqInitAttr>() == 24);
    assert!(size_of::<QpInitAttr>() == 64 && offset_of!(QpInitAttr, max_send_wr) == 32);
    assert!(offset_of!(QpInitAttr, qp_type) == 52 && size_of::<QpAttr>() == 144);
    assert!(size_of::<DeviceAttr>() == 232 && offset_of!(DeviceAttr, max_qp) == 108);
    assert!(offset_of!(DeviceAttr, max_qp_wr) == 112 && offset_of!(DeviceAttr, max_cqe) == 132);
    assert!(offset_of!(DeviceAttr, max_qp_rd_atom) == 144);
    assert!(offset_of!(DeviceAttr, max_qp_init_rd_atom) == 156);
    assert!(offset_of!(DeviceAttr, max_srq) == 212 && offset_of!(DeviceAttr, max_srq_sge) == 220);
    assert!(size_of::<AsyncEvent>() == 16 && offset_of!(AsyncEvent, event_type) == 8);
    assert!(offset_of!(CmId, source) == 32 && offset_of!(CmId, destination) == 160);
    assert!(offset_of!(CmId, port_space) == 344 && offset_of!(CmId, port_num) == 348);
    assert!(size_of::<ConnParam>() == 24 && offset_of!(ConnParam, rnr_retry_count) == 13);
    assert!(offset_of!(CmEvent, conn) == 24 && offset_of!(CmEvent, status) == 20);
};

pub const PORT_SPACE_TCP: c_uint = 0x0106;
pub const QP_TYPE_RC: c_uint = 2;
pub const QP_STATE_ERROR: c_uint = 6;
pub const QP_ATTR_STATE: c_int = 1;

pub const ACCESS_LOCAL_WRITE: c_int = 1;
pub const ACCESS_REMOTE_WRITE: c_int = 2;
pub const ACCESS_REMOTE_READ: c_int = 4;

pub const SEND_SIGNALED: c_uint = 1 << 1;
pub const SEND_INLINE: c_uint = 1 << 3;

pub const OPCODE_RDMA_WRITE: c_uint = 0;
pub const OPCODE_SEND: c_uint = 2;
pub const OPCODE_RDMA_READ: c_uint = 4;
pub const OPCODE_SEND_WITH_INVALIDATE: c_uint = 9;

pub const COMPLETION_WITH_INVALIDATE: c_uint = 1 << 3;

pub const STATUS_SUCCESS: c_uint = 0;
pub const STATUS_LOCAL_LENGTH: c_uint = 1;
pub const STATUS_LOCAL_OPERATION: c_uint = 2;
pub const STATUS_LOCAL_PROTECTION: c_uint = 4;
pub const STATUS_FLUSHED: c_uint = 5;
pub const STATUS_LOCAL_ACCESS: c_uint = 8;
pub const STATUS_REMOTE_INVALID: c_uint = 9;
pub const STATUS_REMOTE_ACCESS: c_uint = 10;
pub const STATUS_REMOTE_OPERATION: c_uint = 11;
pub const STATUS_RETRIES_EXCEEDED: c_uint = 12;
pub const STATUS_RECEIVER_NOT_READY: c_uint = 13;

pub const ASYNC_CQ_ERROR: c_uint = 0;
pub const ASYNC_QP_FATAL: c_uint = 1;
pub const ASYNC_QP_REQUEST_ERROR: c_uint = 2;
pub const ASYNC_QP_ACCESS_ERROR: c_uint = 3;
pub const ASYNC_COMMUNICATION_ESTABLISHED: c_uint = 4;
pub const ASYNC_DEVICE_FATAL: c_uint = 8;
pub const ASYNC_PORT_ACTIVE: c_uint = 9;
pub const ASYNC_PORT_ERROR: c_uint = 10;
pub const ASYNC_SRQ_ERROR: c_uint = 14;
pub const ASYNC_LAST_WQE_REACHED: c_uint = 16;

pub const CM_ADDRESS_RESOLVED: c_uint = 0;
pub const CM_ADDRESS_ERROR: c_uint = 1;
pub const CM_ROUTE_RESOLVED: c_uint = 2;
pub const CM_ROUTE_ERROR: c_uint = 3;
pub const CM_CONNECT_REQUEST: c_uint = 4;
pub const CM_CONNECT_ERROR: c_uint = 6;
pub const CM_UNREACHABLE: c_uint = 7;
pub const CM_REJECTED: c_uint = 8;
pub const CM_ESTABLISHED: c_uint = 9;
pub const CM_DISCONNECTED: c_uint = 10;
pub const CM_DEVICE_REMOVAL: c_uint = 11;
pub const CM_ADDRESS_CHANGE: c_uint = 14;
pub const CM_TIMEWAIT_EXIT: c_uint = 15;

pub const OPTION_LEVEL_ID: c_int = 0;
pub const OPTION_ID_ADDRESS_FAMILY_ONLY: c_int = 2;
