//! Identify data structures, 4,096 bytes each.
//!
//! Source: base 2.0 section 5.17.2 (controller, namespace lists, descriptors, command sets), NVM
//! command set 1.0 section 4.1.5 (namespace, controller of the NVM command set).

mod controller;
mod namespace;

pub use controller::{
    IdentifyController, IdentifyControllerNvm, PowerState, cntrltype, ctratt, fna, oacs, ofcs,
    oncs, sgls, vwc,
};
pub use namespace::{
    DescriptorIter, DescriptorWriter, IdentifyNamespace, IdentifyNamespaceIndependent,
    IdentifyNamespaceNvm, IoCommandSets, LbaFormat, NsDescriptor, NsidList, NsidType, dlfeat,
    nsfeat,
};

open_enum! {
    /// Which structure Identify returns.
    Cns: u8 {
        NAMESPACE = 0x00, "Namespace, NVM command set.";
        CONTROLLER = 0x01, "Controller.";
        ACTIVE_NAMESPACES = 0x02, "Active namespace list.";
        NAMESPACE_DESCRIPTORS = 0x03, "Namespace identification descriptors.";
        NVM_SET_LIST = 0x04, "NVM set list.";
        CSI_NAMESPACE = 0x05, "Namespace, of a command set.";
        CSI_CONTROLLER = 0x06, "Controller, of a command set.";
        CSI_ACTIVE_NAMESPACES = 0x07, "Active namespaces of a command set.";
        INDEPENDENT_NAMESPACE = 0x08, "Namespace, whatever its command set.";
        ALLOCATED_NAMESPACES = 0x10, "Allocated namespace list.";
        ALLOCATED_NAMESPACE = 0x11, "Allocated namespace.";
        ATTACHED_CONTROLLERS = 0x12, "Controllers a namespace is attached to.";
        CONTROLLERS = 0x13, "Controllers of the subsystem.";
        PRIMARY_CAPABILITIES = 0x14, "Primary controller capabilities.";
        SECONDARY_CONTROLLERS = 0x15, "Secondary controllers.";
        NAMESPACE_GRANULARITY = 0x16, "Namespace granularity list.";
        UUIDS = 0x17, "UUID list.";
        IO_COMMAND_SETS = 0x1c, "I/O command set combinations.";
    }
}

open_enum! {
    /// Command set identifier.
    Csi: u8 {
        NVM = 0, "NVM command set.";
        KEY_VALUE = 1, "Key value command set.";
        ZONED = 2, "Zoned namespace command set.";
    }
}

/// Size of every Identify answer in bytes.
pub const IDENTIFY_BYTES: usize = 4096;
