//! A stand-in for NVIDIA's driver: the functions that the runtime calls, over the interpreter. Built as a shared library and found under the driver's name, it lets
//! a model that was built for GPUs run where there is none. Work is done at once, whatever the stream.
//!
//! `RECC_GPU_MEMORY` sets its memory in bytes, and `RECC_GPU_COUNTS` names a file for what each call did.

#![allow(unsafe_code, reason = "functions of another library's interface")]
#![allow(non_snake_case, reason = "names of another library's interface")]

use crate::{Call, Counts, Function, Memory, parse, run};
use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::io::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Results, as the interface numbers them.
const SUCCESS: c_int = 0;
const INVALID_VALUE: c_int = 1;
const OUT_OF_MEMORY: c_int = 2;
const INVALID_PTX: c_int = 218;
const NOT_FOUND: c_int = 500;
const LAUNCH_FAILED: c_int = 719;

/// Memory, where nothing else is set.
const MEMORY: usize = 1 << 30;

#[derive(Default)]
struct State {
    memory: Memory,
    /// Bytes by address.
    taken: BTreeMap<u64, usize>,
    functions: Vec<Function>,
    calls: u32,
}

fn state() -> MutexGuard<'static, Option<State>> {
    static STATE: Mutex<Option<State>> = Mutex::new(None);
    let mut state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    state.get_or_insert_default();
    state
}

fn with<T>(work: impl FnOnce(&mut State) -> T) -> T {
    state().as_mut().map(work).unwrap_or_else(|| unreachable!("it was inserted"))
}

/// Says on standard error what is wrong, as a real device does not.
fn refused(code: c_int, why: &str) -> c_int {
    let _ = writeln!(std::io::stderr(), "stand-in driver: {why}");
    code
}

fn done(result: Result<(), String>, code: c_int) -> c_int {
    result.map_or_else(|why| refused(code, &why), |()| SUCCESS)
}

fn room() -> usize {
    std::env::var("RECC_GPU_MEMORY").ok().and_then(|bytes| bytes.parse().ok()).unwrap_or(MEMORY)
}

/// Writes what a caller gave a place for.
///
/// # Safety
/// The place is null or valid.
unsafe fn give<T>(place: *mut T, value: T) -> c_int {
    if place.is_null() {
        return INVALID_VALUE;
    }
    // SAFETY: the caller's.
    unsafe { place.write(value) };
    SUCCESS
}

/// Functions that do nothing here.
macro_rules! idle {
    ($($name:ident($($argument:ident: $ty:ty),*);)*) => {$(
        #[unsafe(no_mangle)]
        extern "C" fn $name($($argument: $ty),*) -> c_int {
            SUCCESS
        }
    )*};
}

idle! {
    cuInit(_flags: c_uint);
    cuCtxSetCurrent(_context: usize);
    cuCtxSynchronize();
    cuStreamSynchronize(_stream: usize);
    cuStreamWaitEvent(_stream: usize, _event: usize, _flags: c_uint);
    cuEventRecord(_event: usize, _stream: usize);
    cuEventDestroy_v2(_event: usize);
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetCount(count: *mut c_int) -> c_int {
    // SAFETY: the interface's, here and below.
    unsafe { give(count, std::env::var("RECC_GPU_COUNT").ok().and_then(|count| count.parse().ok()).unwrap_or(1)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGet(device: *mut c_int, _number: c_int) -> c_int {
    // SAFETY: as above.
    unsafe { give(device, 0) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetAttribute(value: *mut c_int, which: c_int, _device: c_int) -> c_int {
    // The two of the compute capability: 8.0.
    // SAFETY: as above.
    unsafe { give(value, if which == 75 { 8 } else { 0 }) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDevicePrimaryCtxRetain(context: *mut usize, _device: c_int) -> c_int {
    // SAFETY: as above.
    unsafe { give(context, 1) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuStreamCreate(stream: *mut usize, _flags: c_uint) -> c_int {
    // SAFETY: as above.
    unsafe { give(stream, 1) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuEventCreate(event: *mut usize, _flags: c_uint) -> c_int {
    // SAFETY: as above.
    unsafe { give(event, 1) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemGetInfo_v2(free: *mut usize, all: *mut usize) -> c_int {
    let taken: usize = with(|state| state.taken.values().sum());
    // SAFETY: as above.
    unsafe { give(free, room().saturating_sub(taken)).max(give(all, room())) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemAlloc_v2(address: *mut u64, bytes: usize) -> c_int {
    let given = with(|state| {
        if state.taken.values().sum::<usize>() + bytes > room() {
            return None;
        }
        let address = state.memory.allocate(bytes);
        state.taken.insert(address, bytes);
        Some(address)
    });
    // SAFETY: as above.
    given.map_or(OUT_OF_MEMORY, |given| unsafe { give(address, given) })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemFree_v2(address: u64) -> c_int {
    let freed = with(|state| state.taken.remove(&address).is_some() && state.memory.free(address));
    if freed { SUCCESS } else { refused(INVALID_VALUE, "memory is given back that was not taken") }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemHostAlloc(address: *mut *mut c_void, bytes: usize, _flags: c_uint) -> c_int {
    // The length goes before the memory, for when it is given back.
    let words = vec![0u64; bytes.div_ceil(8) + 2].into_boxed_slice();
    let len = words.len();
    let begin = Box::into_raw(words).cast::<u64>();
    // SAFETY: the memory has two words more than are handed out; the place is the interface's.
    unsafe {
        begin.write(len as u64);
        give(address, begin.add(2).cast())
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemFreeHost(address: *mut c_void) -> c_int {
    // SAFETY: the memory came from the function above, which wrote its length two words before.
    unsafe {
        let begin = address.cast::<u64>().sub(2);
        drop(Box::from_raw(std::ptr::slice_from_raw_parts_mut(begin, begin.read() as usize)));
    }
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemcpyHtoDAsync_v2(address: u64, from: *const u8, bytes: usize, _stream: usize) -> c_int {
    // SAFETY: as above; nothing may be read where there are no bytes.
    let bytes = if bytes == 0 { &[][..] } else { unsafe { std::slice::from_raw_parts(from, bytes) } };
    done(with(|state| state.memory.write(address, bytes)), INVALID_VALUE)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemcpyDtoHAsync_v2(to: *mut u8, address: u64, bytes: usize, _stream: usize) -> c_int {
    let copy = |state: &mut State| {
        let found = state.memory.read(address, bytes)?;
        // SAFETY: the place has room for so many bytes.
        unsafe { to.copy_from_nonoverlapping(found.as_ptr(), bytes) };
        Ok(())
    };
    done(with(copy), INVALID_VALUE)
}

#[unsafe(no_mangle)]
extern "C" fn cuMemsetD8Async(address: u64, value: u8, bytes: usize, _stream: usize) -> c_int {
    done(with(|state| state.memory.write(address, &vec![value; bytes])), INVALID_VALUE)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuModuleLoadDataEx(
    module: *mut usize,
    text: *const c_char,
    _count: c_uint,
    _options: *mut c_int,
    _values: *mut *mut c_void,
) -> c_int {
    // SAFETY: the text ends with 0.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned();
    match parse(&text) {
        Ok(functions) => {
            with(|state| state.functions = functions);
            // SAFETY: as above.
            unsafe { give(module, 1) }
        }
        Err(why) => refused(INVALID_PTX, &why),
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuModuleGetFunction(function: *mut usize, _module: usize, name: *const c_char) -> c_int {
    // SAFETY: the name ends with 0.
    let name = unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned();
    let place = with(|state| state.functions.iter().position(|own| own.name == name));
    // SAFETY: as above. A handle is not null.
    place.map_or(NOT_FOUND, |place| unsafe { give(function, place + 1) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuLaunchKernel(
    function: usize,
    x: c_uint,
    y: c_uint,
    z: c_uint,
    threads: c_uint,
    _threads_y: c_uint,
    _threads_z: c_uint,
    _shared: c_uint,
    _stream: usize,
    params: *mut *mut c_void,
    _extra: *mut *mut c_void,
) -> c_int {
    if x == 0 || y == 0 || z == 0 || y > 65_535 || z > 65_535 {
        return refused(INVALID_VALUE, "a grid that no device takes");
    }
    done(
        with(|state| {
            let State { memory, functions, calls, .. } = state;
            let function = functions.get(function - 1).ok_or("no such function")?;
            let word = |(at, bytes): (usize, &usize)| {
                let mut word = [0; 8];
                // SAFETY: the interface has an address for each parameter, where its bytes lie.
                unsafe { word.as_mut_ptr().copy_from_nonoverlapping((*params.add(at)).cast::<u8>(), *bytes) };
                u64::from_le_bytes(word)
            };
            let words: Vec<u64> = function.params.iter().enumerate().map(word).collect();
            *calls += 1;
            let counts = run(function, &Call { grid: [x, y, z], threads, params: &words }, *calls, memory)?;
            report(&function.name, counts);
            Ok(())
        }),
        LAUNCH_FAILED,
    )
}

/// Appends what a call did to the file that is asked for.
fn report(name: &str, counts: Counts) {
    let Some(path) = std::env::var_os("RECC_GPU_COUNTS") else { return };
    if let Ok(mut file) = std::fs::OpenOptions::new().create(true).append(true).open(path) {
        let _ = writeln!(file, "{name} {counts:?}");
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuGetErrorName(error: c_int, name: *mut *const c_char) -> c_int {
    let known = match error {
        OUT_OF_MEMORY => c"CUDA_ERROR_OUT_OF_MEMORY",
        INVALID_PTX => c"CUDA_ERROR_INVALID_PTX",
        NOT_FOUND => c"CUDA_ERROR_NOT_FOUND",
        LAUNCH_FAILED => c"CUDA_ERROR_LAUNCH_FAILED",
        _ => c"CUDA_ERROR_INVALID_VALUE",
    };
    // SAFETY: as above.
    unsafe { give(name, known.as_ptr()) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuGetErrorString(error: c_int, text: *mut *const c_char) -> c_int {
    // SAFETY: as above.
    unsafe { cuGetErrorName(error, text) }
}
