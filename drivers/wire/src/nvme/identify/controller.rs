//! Identify Controller.
//!
//! Source: base 2.0 section 5.17.2.1, figure of the Identify Controller data structure; NVM
//! command set 1.0 section 4.1.5.2 (CNS 06h).

use zerocopy::little_endian::{U16, U32, U64, U128};

use crate::text::{Ascii, NqnField};

wire_struct! {
    /// A 32-byte power state descriptor.
    PowerState[32] {
        0 mp: U16, "Maximum power, in the unit that `flags` bit 0 selects.";
        2 rsvd2: u8, "Reserved.";
        3 flags: u8, "Bit 0: unit 0.0001 W instead of 0.01 W; bit 1: non-operational.";
        4 enlat_us: U32, "Entry latency in microseconds.";
        8 exlat_us: U32, "Exit latency in microseconds.";
        12 rrt: u8, "Relative read throughput.";
        13 rrl: u8, "Relative read latency.";
        14 rwt: u8, "Relative write throughput.";
        15 rwl: u8, "Relative write latency.";
        16 idlp: U16, "Idle power.";
        18 ips: u8, "Idle power scale in bits 7:6.";
        19 rsvd19: u8, "Reserved.";
        20 actp: U16, "Active power.";
        22 apw_aps: u8, "Active power workload in bits 2:0, scale in bits 7:6.";
        23 rsvd23: [u8; 9], "Reserved.";
    }
}

wire_struct! {
    /// Identify Controller (CNS 01h).
    IdentifyController[4096] {
        0 vid: U16, "PCI vendor identifier.";
        2 ssvid: U16, "PCI subsystem vendor identifier.";
        4 sn: Ascii<20>, "Serial number.";
        24 mn: Ascii<40>, "Model number.";
        64 fr: Ascii<8>, "Firmware revision.";
        72 rab: u8, "Recommended arbitration burst: 2^value.";
        73 ieee: [u8; 3], "IEEE OUI, least significant byte first.";
        76 cmic: u8, "Multi-path: bit 0 ports, 1 controllers, 2 SR-IOV, 3 ANA.";
        77 mdts: u8, "Maximum data transfer: 2^value of the smallest memory page; 0 is no limit.";
        78 cntlid: U16, "Controller identifier.";
        80 ver: U32, "Version, as the VS property.";
        84 rtd3r_us: U32, "RTD3 resume latency in microseconds.";
        88 rtd3e_us: U32, "RTD3 entry latency in microseconds.";
        92 oaes: U32, "Asynchronous events supported, bits as `feature::async_event`.";
        96 ctratt: U32, "Controller attributes, see `ctratt`.";
        100 rrls: U16, "Read recovery levels supported.";
        102 rsvd102: [u8; 9], "Reserved.";
        111 cntrltype: u8, "Controller type: 1 I/O, 2 discovery, 3 administrative.";
        112 fguid: [u8; 16], "FRU globally unique identifier.";
        128 crdt1: U16, "Command retry delay 1 in 100 ms.";
        130 crdt2: U16, "Command retry delay 2 in 100 ms.";
        132 crdt3: U16, "Command retry delay 3 in 100 ms.";
        134 rsvd134: [u8; 119], "Reserved.";
        253 nvmsr: u8, "NVM subsystem report: bit 0 storage device, 1 enclosure.";
        254 vwci: u8, "VPD write cycle information.";
        255 mec: u8, "Management endpoint capabilities.";
        256 oacs: U16, "Optional admin commands, see `oacs`.";
        258 acl: u8, "Abort commands in flight, 0-based.";
        259 aerl: u8, "Asynchronous event requests in flight, 0-based.";
        260 frmw: u8, "Firmware: bit 0 slot 1 read-only, bits 3:1 slots, bit 4 no reset needed.";
        261 lpa: u8, "Logs: bit 0 SMART per namespace, 1 effects, 2 extended data, 3 telemetry.";
        262 elpe: u8, "Error log entries, 0-based.";
        263 npss: u8, "Power states, 0-based.";
        264 avscc: u8, "Bit 0: vendor admin commands use the standard format.";
        265 apsta: u8, "Autonomous power state transitions.";
        266 wctemp: U16, "Warning temperature in kelvin.";
        268 cctemp: U16, "Critical temperature in kelvin.";
        270 mtfa: U16, "Maximum time of firmware activation in 100 ms.";
        272 hmpre: U32, "Host memory buffer preferred size in 4 KiB.";
        276 hmmin: U32, "Host memory buffer minimum size in 4 KiB.";
        280 tnvmcap: U128, "Total capacity in bytes.";
        296 unvmcap: U128, "Unallocated capacity in bytes.";
        312 rpmbs: U32, "Replay protected memory block.";
        316 edstt: U16, "Extended self-test time in minutes.";
        318 dsto: u8, "Device self-test options.";
        319 fwug: u8, "Firmware update granularity in 4 KiB.";
        320 kas: U16, "Keep alive granularity in 100 ms; 0 is not supported.";
        322 hctma: U16, "Host controlled thermal management.";
        324 mntmt: U16, "Minimum thermal management temperature in kelvin.";
        326 mxtmt: U16, "Maximum thermal management temperature in kelvin.";
        328 sanicap: U32, "Sanitize capabilities.";
        332 hmminds: U32, "Host memory buffer minimum descriptor size in 4 KiB.";
        336 hmmaxd: U16, "Host memory buffer maximum descriptors.";
        338 nsetidmax: U16, "Largest NVM set identifier.";
        340 endgidmax: U16, "Largest endurance group identifier.";
        342 anatt: u8, "ANA transition time in seconds.";
        343 anacap: u8, "ANA capabilities.";
        344 anagrpmax: U32, "Largest ANA group identifier.";
        348 nanagrpid: U32, "Number of ANA groups.";
        352 pels: U32, "Persistent event log size in 64 KiB.";
        356 did: U16, "Domain identifier.";
        358 rsvd358: [u8; 10], "Reserved.";
        368 megcap: U128, "Maximum endurance group capacity in bytes.";
        384 rsvd384: [u8; 128], "Reserved, part of it for the management interface.";
        512 sqes: u8, "Submission entry: log2 of required size in bits 3:0, maximum in 7:4.";
        513 cqes: u8, "Completion entry: log2 of required size in bits 3:0, maximum in 7:4.";
        514 maxcmd: U16, "Commands in flight per queue; required over fabrics.";
        516 nn: U32, "Largest namespace identifier.";
        520 oncs: U16, "Optional NVM commands, see `oncs`.";
        522 fuses: U16, "Fused operations: bit 0 Compare and Write.";
        524 fna: u8, "Format and erase attributes, see `fna`.";
        525 vwc: u8, "Volatile write cache, see `vwc`.";
        526 awun: U16, "Atomic write unit in blocks, 0-based.";
        528 awupf: U16, "Atomic write unit over power failure in blocks, 0-based.";
        530 nvscc: u8, "Bit 0: vendor I/O commands use the standard format.";
        531 nwpc: u8, "Namespace write protection.";
        532 acwu: U16, "Atomic Compare and Write unit in blocks, 0-based.";
        534 cdfs: U16, "Copy descriptor formats.";
        536 sgls: U32, "SGL support, see `sgls`.";
        540 mnan: U32, "Maximum number of namespaces; 0 means NN.";
        544 maxdna: U128, "Maximum domain namespace attachments.";
        560 maxcna: U32, "Maximum I/O controller namespace attachments.";
        564 rsvd564: [u8; 204], "Reserved.";
        768 subnqn: NqnField, "NVM subsystem qualified name.";
        1024 rsvd1024: [u8; 768], "Reserved.";
        1792 ioccsz: U32, "Largest I/O command capsule in 16 bytes.";
        1796 iorcsz: U32, "Largest I/O response capsule in 16 bytes.";
        1800 icdoff: U16, "Start of in-capsule data after the command, in 16 bytes.";
        1802 fcatt: u8, "Bit 0: static controller model.";
        1803 msdbd: u8, "SGL data block descriptors per command; 0 is no limit.";
        1804 ofcs: U16, "Optional fabrics commands, see `ofcs`.";
        1806 rsvd1806: [u8; 242], "Reserved.";
        2048 psd: [PowerState; 32], "Power state descriptors.";
        3072 rsvd3072: [u8; 1024], "Vendor specific; the appliance leaves it zero.";
    }
}

/// CNTRLTYPE values.
pub mod cntrltype {
    /// I/O controller.
    pub const IO: u8 = 1;
    /// Discovery controller.
    pub const DISCOVERY: u8 = 2;
    /// Administrative controller.
    pub const ADMIN: u8 = 3;
}

bits! {
    /// CTRATT bits.
    ctratt: u32 {
        HOST_ID_128 = 0, "128-bit host identifiers are supported.";
        NVM_SETS = 2, "NVM sets.";
        ENDURANCE_GROUPS = 4, "Endurance groups.";
        TRAFFIC_KEEP_ALIVE = 6, "Any command restarts the keep alive timer.";
        NAMESPACE_GRANULARITY = 7, "Namespace granularity.";
        UUID_LIST = 9, "UUID list.";
        EXTENDED_LBA_FORMATS = 15, "Extended LBA formats.";
    }
}

bits! {
    /// OACS bits.
    oacs: u16 {
        SECURITY = 0, "Security Send and Receive.";
        FORMAT = 1, "Format NVM.";
        FIRMWARE = 2, "Firmware Commit and Download.";
        NAMESPACE_MANAGEMENT = 3, "Namespace Management and Attachment.";
        SELF_TEST = 4, "Device Self-test.";
    }
}

bits! {
    /// ONCS bits.
    oncs: u16 {
        COMPARE = 0, "Compare.";
        WRITE_UNCORRECTABLE = 1, "Write Uncorrectable.";
        DATASET_MANAGEMENT = 2, "Dataset Management.";
        WRITE_ZEROES = 3, "Write Zeroes.";
        SAVE_SELECT = 4, "Save field in Set Features and Select field in Get Features.";
        RESERVATIONS = 5, "Reservations.";
        TIMESTAMP = 6, "Timestamp feature.";
        VERIFY = 7, "Verify.";
        COPY = 8, "Copy.";
    }
}

bits! {
    /// FNA bits.
    fna: u8 {
        FORMAT_ALL = 0, "Format applies to all namespaces.";
        ERASE_ALL = 1, "Secure erase applies to all namespaces.";
        CRYPTO_ERASE = 2, "Cryptographic erase.";
    }
}

/// VWC values.
pub mod vwc {
    /// A volatile write cache is present.
    pub const PRESENT: u8 = 1;
    /// Flush does not accept the namespace identifier FFFFFFFFh.
    pub const FLUSH_ALL_NO: u8 = 2 << 1;
    /// Flush accepts the namespace identifier FFFFFFFFh.
    pub const FLUSH_ALL_YES: u8 = 3 << 1;
}

bits! {
    /// SGLS bits above the two that say whether SGLs are supported.
    sgls: u32 {
        SUPPORTED = 0, "Supported, without alignment (bits 1:0 = 1).";
        SUPPORTED_DWORD = 1, "Supported, dword aligned (bits 1:0 = 2).";
        KEYED = 2, "Keyed data block descriptors.";
        BIT_BUCKET = 16, "Bit bucket descriptors.";
        METADATA_POINTER = 17, "Byte aligned metadata buffer.";
        LONGER_THAN_DATA = 18, "An SGL may be longer than the data.";
        OFFSET_ADDRESS = 20, "Offsets into the capsule.";
        TRANSPORT = 21, "Transport data block descriptors.";
    }
}

bits! {
    /// OFCS bits.
    ofcs: u16 {
        DISCONNECT = 0, "Disconnect.";
    }
}

wire_struct! {
    /// Controller limits of the NVM command set (CNS 06h, CSI 0).
    IdentifyControllerNvm[4096] {
        0 vsl: u8, "Verify size limit: 2^value of the smallest memory page; 0 is no limit.";
        1 wzsl: u8, "Write Zeroes size limit, as `vsl`.";
        2 wusl: u8, "Write Uncorrectable size limit, as `vsl`.";
        3 dmrl: u8, "Dataset Management ranges limit; 0 is no limit.";
        4 dmrsl: U32, "Dataset Management blocks per range limit; 0 is no limit.";
        8 dmsl: U64, "Dataset Management total blocks limit; 0 is no limit.";
        16 rsvd16: [u8; 4080], "Reserved.";
    }
}
