//! Identify structures, descriptor lists and log pages.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::nvme::identify::{
    DescriptorIter, DescriptorWriter, IdentifyController, IdentifyControllerNvm, IdentifyNamespace,
    IdentifyNamespaceIndependent, IdentifyNamespaceNvm, IoCommandSets, NsidList,
};
use wire::nvme::log::{
    CommandsEffectsLog, ErrorEntry, FirmwareSlotLog, SmartLog, SupportedLogPages,
};

/// Decodes, prints (the printing code is ours too) and encodes again.
macro_rules! round_trip {
    ($bytes:expr, $($structure:ident),*) => {
        $( match $structure::decode($bytes) {
            Ok(view) => {
                let _ = format!("{view:?}");
                assert_eq!(view.as_wire(), &$bytes[..$structure::SIZE]);
            }
            Err(_) => assert!($bytes.len() < $structure::SIZE),
        } )*
    };
}

fuzz_target!(|bytes: &[u8]| {
    round_trip!(
        bytes,
        IdentifyController,
        IdentifyControllerNvm,
        IdentifyNamespace,
        IdentifyNamespaceIndependent,
        IdentifyNamespaceNvm,
        IoCommandSets,
        NsidList,
        CommandsEffectsLog,
        ErrorEntry,
        FirmwareSlotLog,
        SmartLog,
        SupportedLogPages
    );
    if let Ok(namespace) = IdentifyNamespace::decode(bytes) {
        let _ = namespace.format_in_use();
    }
    if let Ok(list) = NsidList::decode(bytes) {
        assert!(list.iter().all(|nsid| nsid != 0));
    }
    descriptors(bytes);
});

fn descriptors(bytes: &[u8]) {
    let mut writer = DescriptorWriter::new();
    let mut fits = true;
    for descriptor in DescriptorIter::new(bytes) {
        let Ok(descriptor) = descriptor else { return };
        fits &= writer.push(&descriptor).is_ok();
    }
    if fits {
        let (first, again) = (
            DescriptorIter::new(bytes),
            DescriptorIter::new(writer.as_wire()),
        );
        assert!(
            first.flatten().eq(again.flatten()),
            "a list changed over a round trip"
        );
    }
}
