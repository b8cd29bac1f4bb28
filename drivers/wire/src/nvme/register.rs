//! Controller registers, which fabrics call properties.
//!
//! Source: base 2.0 section 3.1.3 (property definitions); fabrics controllers have CAP, VS, CC,
//! CSTS and optionally NSSR and CRTO.

open_enum! {
    /// Size of a property access: attribute bits 2:0 of Property Get and Set.
    PropertySize: u8 {
        FOUR = 0, "4 bytes.";
        EIGHT = 1, "8 bytes.";
    }
}

/// Property offsets in bytes.
pub mod offset {
    /// Controller capabilities, 8 bytes.
    pub const CAP: u32 = 0x00;
    /// Version, 4 bytes.
    pub const VS: u32 = 0x08;
    /// Controller configuration, 4 bytes.
    pub const CC: u32 = 0x14;
    /// Controller status, 4 bytes.
    pub const CSTS: u32 = 0x1c;
    /// NVM subsystem reset, 4 bytes, optional.
    pub const NSSR: u32 = 0x20;
    /// Controller ready timeouts, 4 bytes.
    pub const CRTO: u32 = 0x68;
}

/// The value that NSSR must be written with to reset the subsystem: "NVMe" in ASCII.
pub const NSSR_MAGIC: u32 = 0x4e56_4d65;

/// Declares a register as named bit ranges with a getter and a `with_` setter each.
macro_rules! register {
    ($(#[$meta:meta])* $name:ident : $repr:ident {
        $( $get:ident / $with:ident = $shift:literal, $width:literal, $doc:literal; )*
    }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Default)]
        pub struct $name(pub $repr);

        impl $name {
            $(
                #[doc = $doc]
                #[must_use]
                pub const fn $get(self) -> $repr {
                    (self.0 >> $shift) & ((1 << $width) - 1)
                }

                #[doc = concat!("Sets: ", $doc, " Higher bits of `value` are dropped.")]
                #[must_use]
                pub const fn $with(self, value: $repr) -> Self {
                    let mask: $repr = ((1 << $width) - 1) << $shift;
                    Self((self.0 & !mask) | ((value << $shift) & mask))
                }
            )*
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.debug_struct(stringify!($name))
                    $( .field(stringify!($get), &self.$get()) )*
                    .finish()
            }
        }
    };
}

register! {
    /// CAP: controller capabilities.
    Cap: u64 {
        mqes / with_mqes = 0, 16, "Largest queue in entries, 0-based.";
        cqr / with_cqr = 16, 1, "Queues must be contiguous; 1 over fabrics.";
        ams / with_ams = 17, 2, "Arbitration mechanisms beyond round robin.";
        timeout_500ms / with_timeout_500ms = 24, 8, "Longest wait for CSTS.RDY, in 500 ms.";
        dstrd / with_dstrd = 32, 4, "Doorbell stride; 0 over fabrics.";
        nssrs / with_nssrs = 36, 1, "Subsystem reset is supported.";
        css / with_css = 37, 8, "Command sets: bit 0 NVM, bit 6 others, bit 7 admin only.";
        bps / with_bps = 45, 1, "Boot partitions are supported.";
        cps / with_cps = 46, 2, "Power scope.";
        mpsmin / with_mpsmin = 48, 4, "Smallest memory page: 2^(12 + value) bytes.";
        mpsmax / with_mpsmax = 52, 4, "Largest memory page: 2^(12 + value) bytes.";
        pmrs / with_pmrs = 56, 1, "Persistent memory region is supported.";
        cmbs / with_cmbs = 57, 1, "Controller memory buffer is supported.";
        nsss / with_nsss = 58, 1, "Subsystem shutdown is supported.";
        crms / with_crms = 59, 2, "Ready modes: bit 0 with media, bit 1 independent of media.";
    }
}

register! {
    /// VS: the specification version.
    Version: u32 {
        tertiary / with_tertiary = 0, 8, "Tertiary version.";
        minor / with_minor = 8, 8, "Minor version.";
        major / with_major = 16, 16, "Major version.";
    }
}

impl Version {
    /// NVM Express 1.4.
    pub const V1_4: Self = Self(0x0001_0400);
    /// NVM Express 2.0.
    pub const V2_0: Self = Self(0x0002_0000);
}

register! {
    /// CC: controller configuration, written by the host.
    Config: u32 {
        en / with_en = 0, 1, "Enable: 0 to 1 starts the controller, 1 to 0 resets it.";
        css / with_css = 4, 3, "Command set: 0 NVM, 6 all supported, 7 admin only.";
        mps / with_mps = 7, 4, "Memory page: 2^(12 + value) bytes.";
        ams / with_ams = 11, 3, "Arbitration mechanism.";
        shn / with_shn = 14, 2, "Shutdown notification: 0 none, 1 normal, 2 abrupt.";
        iosqes / with_iosqes = 16, 4, "I/O submission entry: 2^value bytes, 6 for NVM.";
        iocqes / with_iocqes = 20, 4, "I/O completion entry: 2^value bytes, 4 for NVM.";
        crime / with_crime = 24, 1, "Ready independent of media.";
    }
}

register! {
    /// CSTS: controller status.
    ControllerStatus: u32 {
        rdy / with_rdy = 0, 1, "Ready.";
        cfs / with_cfs = 1, 1, "Fatal: only a reset helps.";
        shst / with_shst = 2, 2, "Shutdown: 0 none, 1 in progress, 2 complete.";
        nssro / with_nssro = 4, 1, "A subsystem reset occurred.";
        pp / with_pp = 5, 1, "Processing is paused.";
        st / with_st = 6, 1, "The shutdown in `shst` is of the whole subsystem.";
    }
}

/// CC.SHN values.
pub mod shutdown_request {
    /// No shutdown.
    pub const NONE: u32 = 0;
    /// Normal: finish and flush first.
    pub const NORMAL: u32 = 1;
    /// Abrupt: power is about to go.
    pub const ABRUPT: u32 = 2;
}

/// CSTS.SHST values.
pub mod shutdown_status {
    /// Normal operation.
    pub const NONE: u32 = 0;
    /// Shutting down.
    pub const IN_PROGRESS: u32 = 1;
    /// Shutdown is complete.
    pub const COMPLETE: u32 = 2;
}
