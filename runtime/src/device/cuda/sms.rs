//! How many SMs are ours.
//!
//! What: the least of what the driver says: of the device (a part of it, where that is one instance of several, or where a
//! process that shares it got a share), of the context, and of the green context that a stream of the caller belongs to.
//! Why here: a persistent kernel has a block for each SM, and all of them must be there at once. One that waits for an SM
//! which is somebody else's would wait for ever.
//! Pre: an initialised driver; the device's context is current.
//! Post: a driver that is too old for a question has no such parts, and is not asked.

use std::ffi::c_uint;
use std::mem::MaybeUninit;
use std::ptr;

use cudarc::driver::result;
use cudarc::driver::sys;

use super::failed;
use crate::device::DeviceError;

/// What a driver writes where it is asked for a resource. Newer drivers have longer ones than the bindings, so there is room.
#[repr(C, align(64))]
struct Room([MaybeUninit<u8>; 1024]);

type Wanted = sys::CUdevResourceType;
type OfContext = unsafe extern "C" fn(sys::CUcontext, *mut sys::CUdevResource, Wanted) -> sys::CUresult;
type OfGreen = unsafe extern "C" fn(sys::CUgreenCtx, *mut sys::CUdevResource, Wanted) -> sys::CUresult;
type GreenOf = unsafe extern "C" fn(sys::CUstream, *mut sys::CUgreenCtx) -> sys::CUresult;

/// A function of the driver, if it has it.
fn function<F: Copy>(name: &str) -> Option<F> {
    // SAFETY: the driver was loaded when it was initialised; types are those of its documentation.
    unsafe { sys::culib().get::<F>(name.as_bytes()).ok().map(|f| *f) }
}

/// The SMs of a resource that `ask` has the driver write; nothing if it does not know.
fn count(ask: impl FnOnce(*mut sys::CUdevResource, Wanted) -> sys::CUresult) -> Option<u32> {
    let mut room = Room([MaybeUninit::zeroed(); 1024]);
    let resource: *mut sys::CUdevResource = ptr::from_mut(&mut room).cast();
    ask(resource, Wanted::CU_DEV_RESOURCE_TYPE_SM).result().ok()?;
    // SAFETY: large enough and aligned; it is zero where nothing was written, and the number of SMs comes first in what the
    // kind that was asked for has.
    let sms: c_uint = unsafe { ptr::addr_of!((*resource).__bindgen_anon_1).cast::<c_uint>().read() };
    Some(sms)
}

/// The SMs of a device that a context may use.
pub(super) fn of(device: sys::CUdevice, context: sys::CUcontext) -> Result<u32, DeviceError> {
    let attribute = sys::CUdevice_attribute_enum::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
    // SAFETY: a device that the driver returned.
    let all = unsafe { result::device::get_attribute(device, attribute) }
        .map_err(|e| failed("cuDeviceGetAttribute", e))?;
    let part = function::<OfContext>("cuCtxGetDevResource")
        // SAFETY: a retained context, and room for what is written.
        .and_then(|ask| count(|room, kind| unsafe { ask(context, room, kind) }));
    Ok(least(all.unsigned_abs(), [part]))
}

/// The SMs of the green context of a stream; nothing if it belongs to none.
pub(super) fn of_stream(stream: sys::CUstream) -> Option<u32> {
    let green = function::<GreenOf>("cuStreamGetGreenCtx")?;
    let mut context: sys::CUgreenCtx = ptr::null_mut();
    // SAFETY: a stream that is ours or the caller's, and a valid pointer.
    unsafe { green(stream, &mut context) }.result().ok()?;
    let ask = function::<OfGreen>("cuGreenCtxGetDevResource").filter(|_| !context.is_null())?;
    // SAFETY: the context that the driver returned, and room for what is written.
    count(|room, kind| unsafe { ask(context, room, kind) }).filter(|&n| n > 0)
}

/// The least of all SMs and of parts, of which none has no SMs at all: then the driver did not say.
fn least(all: u32, parts: impl IntoIterator<Item = Option<u32>>) -> u32 {
    parts.into_iter().flatten().filter(|&n| n > 0).fold(all, u32::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_part_counts() {
        assert_eq!(least(132, []), 132);
        assert_eq!(least(132, [None]), 132);
        assert_eq!(least(132, [Some(0)]), 132, "a driver that says nothing");
        assert_eq!(least(132, [Some(16), None, Some(24)]), 16);
        assert_eq!(least(14, [Some(132)]), 14, "an instance of a part of a device");
    }

    /// What a driver would do: it writes the kind, then SMs at the place that its documentation gives.
    #[test]
    fn resources_are_read_where_drivers_write_them() {
        let write = |room: *mut sys::CUdevResource, kind: Wanted, sms: u32, bytes: usize| {
            assert_eq!(kind, Wanted::CU_DEV_RESOURCE_TYPE_SM);
            // SAFETY: there is room for more than any driver writes.
            unsafe {
                room.cast::<u8>().write_bytes(0xee, bytes);
                room.cast::<u32>().write(kind as u32);
                room.cast::<u32>().add(24).write(sms);
            }
            sys::CUresult::CUDA_SUCCESS
        };
        assert_eq!(count(|room, kind| write(room, kind, 24, 144)), Some(24));
        assert_eq!(count(|room, kind| write(room, kind, 132, 1024)), Some(132), "a longer one");
        assert_eq!(count(|_, _| sys::CUresult::CUDA_ERROR_NOT_SUPPORTED), None);
    }
}
