//! The two libraries, loaded when a card is first asked for: a machine without them runs everything
//! else.
#![expect(
    unsafe_code,
    reason = "functions of libraries that are loaded at run time"
)]

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::io;
use std::sync::OnceLock;

use super::ffi::{
    AsyncEvent, CmChannel, CmEvent, CmId, CompChannel, ConnParam, Context, Cq, DeviceAttr,
    DeviceName, Mr, Pd, Qp, QpAttr, QpInitAttr, Srq, SrqInitAttr,
};
use crate::{MissingLibrary, RdmaError};

const VERBS: &str = "libibverbs.so.1";
const MANAGER: &str = "librdmacm.so.1";

/// Loads both libraries, for good. Errors: the first that cannot be, at each call the same.
pub fn load_libraries() -> Result<(), MissingLibrary> {
    Library::loaded().map(drop).map_err(Clone::clone)
}

macro_rules! library {
    ($($file:ident { $($name:ident = $symbol:literal ($($arg:ty),*) $(-> $out:ty)?;)* })*) => {
        /// The functions in use, of both libraries. They stay loaded.
        pub struct Library {
            $($(pub $name: unsafe extern "C" fn($($arg),*) $(-> $out)?,)*)*
        }

        fn load() -> Result<Library, MissingLibrary> {
            $(
                let file = open($file)?;
                // SAFETY: the symbols below are functions of these types in every version of the
                // library with this name (its interface is kept by symbol versions).
                $(let $name = unsafe {
                    std::mem::transmute::<
                        *mut c_void,
                        unsafe extern "C" fn($($arg),*) $(-> $out)?,
                    >(symbol(file, $file, $symbol)?)
                };)*
            )*
            Ok(Library { $($($name,)*)* })
        }
    };
}

library! {
    VERBS {
        get_device_name = c"ibv_get_device_name" (*mut DeviceName) -> *const c_char;
        query_device = c"ibv_query_device" (*mut Context, *mut DeviceAttr) -> c_int;
        alloc_pd = c"ibv_alloc_pd" (*mut Context) -> *mut Pd;
        dealloc_pd = c"ibv_dealloc_pd" (*mut Pd) -> c_int;
        reg_mr = c"ibv_reg_mr" (*mut Pd, *mut c_void, usize, c_int) -> *mut Mr;
        dereg_mr = c"ibv_dereg_mr" (*mut Mr) -> c_int;
        create_comp_channel = c"ibv_create_comp_channel" (*mut Context) -> *mut CompChannel;
        destroy_comp_channel = c"ibv_destroy_comp_channel" (*mut CompChannel) -> c_int;
        create_cq = c"ibv_create_cq"
            (*mut Context, c_int, *mut c_void, *mut CompChannel, c_int) -> *mut Cq;
        destroy_cq = c"ibv_destroy_cq" (*mut Cq) -> c_int;
        get_cq_event = c"ibv_get_cq_event"
            (*mut CompChannel, *mut *mut Cq, *mut *mut c_void) -> c_int;
        ack_cq_events = c"ibv_ack_cq_events" (*mut Cq, c_uint);
        create_srq = c"ibv_create_srq" (*mut Pd, *mut SrqInitAttr) -> *mut Srq;
        destroy_srq = c"ibv_destroy_srq" (*mut Srq) -> c_int;
        modify_qp = c"ibv_modify_qp" (*mut Qp, *mut QpAttr, c_int) -> c_int;
        destroy_qp = c"ibv_destroy_qp" (*mut Qp) -> c_int;
        get_async_event = c"ibv_get_async_event" (*mut Context, *mut AsyncEvent) -> c_int;
        ack_async_event = c"ibv_ack_async_event" (*mut AsyncEvent);
    }
    MANAGER {
        create_event_channel = c"rdma_create_event_channel" () -> *mut CmChannel;
        destroy_event_channel = c"rdma_destroy_event_channel" (*mut CmChannel);
        get_cm_event = c"rdma_get_cm_event" (*mut CmChannel, *mut *mut CmEvent) -> c_int;
        ack_cm_event = c"rdma_ack_cm_event" (*mut CmEvent) -> c_int;
        create_id = c"rdma_create_id" (*mut CmChannel, *mut *mut CmId, *mut c_void, c_uint) -> c_int;
        destroy_id = c"rdma_destroy_id" (*mut CmId) -> c_int;
        migrate_id = c"rdma_migrate_id" (*mut CmId, *mut CmChannel) -> c_int;
        set_option = c"rdma_set_option" (*mut CmId, c_int, c_int, *mut c_void, usize) -> c_int;
        bind_addr = c"rdma_bind_addr" (*mut CmId, *mut libc::sockaddr) -> c_int;
        listen = c"rdma_listen" (*mut CmId, c_int) -> c_int;
        resolve_addr = c"rdma_resolve_addr"
            (*mut CmId, *mut libc::sockaddr, *mut libc::sockaddr, c_int) -> c_int;
        resolve_route = c"rdma_resolve_route" (*mut CmId, c_int) -> c_int;
        create_qp = c"rdma_create_qp" (*mut CmId, *mut Pd, *mut QpInitAttr) -> c_int;
        connect = c"rdma_connect" (*mut CmId, *mut ConnParam) -> c_int;
        accept = c"rdma_accept" (*mut CmId, *mut ConnParam) -> c_int;
        reject = c"rdma_reject" (*mut CmId, *const c_void, u8) -> c_int;
        disconnect = c"rdma_disconnect" (*mut CmId) -> c_int;
        notify = c"rdma_notify" (*mut CmId, c_uint) -> c_int;
        get_devices = c"rdma_get_devices" (*mut c_int) -> *mut *mut Context;
        free_devices = c"rdma_free_devices" (*mut *mut Context);
    }
}

impl Library {
    /// The libraries, loaded at the first call. Errors: `NoLibrary`, at each call the same.
    pub fn get() -> Result<&'static Library, RdmaError> {
        Self::loaded().map_err(|missing| missing.clone().into())
    }

    fn loaded() -> Result<&'static Library, &'static MissingLibrary> {
        static LIBRARY: OnceLock<Result<Library, MissingLibrary>> = OnceLock::new();
        LIBRARY.get_or_init(load).as_ref()
    }
}

/// Loads a library for good.
fn open(library: &'static str) -> Result<*mut c_void, MissingLibrary> {
    let name = std::ffi::CString::new(library).unwrap_or_default();
    // SAFETY: a name that ends with a zero. What the library runs when it is loaded is its own.
    let file = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    if file.is_null() {
        let reason = loader_error();
        return Err(MissingLibrary { library, reason });
    }
    Ok(file)
}

fn symbol(
    file: *mut c_void,
    library: &'static str,
    name: &CStr,
) -> Result<*mut c_void, MissingLibrary> {
    // SAFETY: `file` is a library that stays loaded, `name` ends with a zero.
    let found = unsafe { libc::dlsym(file, name.as_ptr()) };
    if found.is_null() {
        let reason = format!("it has no {}", name.to_string_lossy());
        return Err(MissingLibrary { library, reason });
    }
    Ok(found)
}

fn loader_error() -> String {
    // SAFETY: the text, if there is one, is this thread's until the loader is called again.
    let text = unsafe {
        let text = libc::dlerror();
        (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
    };
    text.unwrap_or_else(|| "unknown reason".to_owned())
}

/// What a call of either library returned: 0, or -1 with the reason in `errno`, or the reason.
pub fn outcome(result: c_int) -> io::Result<()> {
    match result {
        0 => Ok(()),
        error if error > 0 => Err(io::Error::from_raw_os_error(error)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A pointer that a call returned: none with the reason in `errno`.
pub fn made<T>(pointer: *mut T) -> io::Result<*mut T> {
    if pointer.is_null() {
        return Err(io::Error::last_os_error());
    }
    Ok(pointer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_library_is_an_error_that_names_it() {
        let Err(missing) = open("libbedplate-no-such-library.so.1") else {
            panic!("there is no such library");
        };
        let text = missing.to_string();
        assert!(text.contains("libbedplate-no-such-library.so.1"), "{text}");
        assert!(text.contains("cannot open shared object file"), "{text}");
        assert!(text.contains("install rdma-core"), "{text}");
    }

    #[test]
    fn a_missing_function_is_an_error_that_names_it() {
        let file = open("libc.so.6").unwrap_or_else(|missing| panic!("{}", missing.reason));
        assert!(symbol(file, "libc.so.6", c"malloc").is_ok());
        let Err(missing) = symbol(file, "libc.so.6", c"bedplate_no_such_function") else {
            panic!("there is no such function");
        };
        assert_eq!(missing.reason, "it has no bedplate_no_such_function");
    }

    #[test]
    fn results_of_both_libraries_are_understood() {
        assert!(outcome(0).is_ok());
        let error = outcome(libc::ENOMEM).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOMEM));
        // Sets `errno`, as the connection manager does.
        assert!(std::fs::File::open("/nowhere/at/all").is_err());
        assert_eq!(outcome(-1).unwrap_err().raw_os_error(), Some(libc::ENOENT));
    }
}
