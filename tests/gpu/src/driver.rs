//! A stand-in for NVIDIA's driver: the functions that the runtime calls, over the interpreter. Built as a shared library and found under the driver's name, it lets
//! a model that was built for GPUs run where there is none.
//!
//! Work of a stream is done as late as the interface allows, when somebody waits for it, so that a wait that is missing shows. With `RECC_GPU_ORDER=early` work of streams
//! but the first is done as early as it may be. `RECC_GPU_MEMORY` sets the memory in bytes, `RECC_GPU_COUNT` the number of devices, `RECC_GPU_DRIVER` the driver's version, and `RECC_GPU_COUNTS` names a file for what
//! each call did.

#![allow(unsafe_code, reason = "functions of another library's interface")]
#![allow(non_snake_case, reason = "names of another library's interface")]

use crate::{Call, Counts, Function, Memory, parse, run};
use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::io::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Results, as the interface numbers them.
const SUCCESS: c_int = 0;
const INVALID_VALUE: c_int = 1;
const OUT_OF_MEMORY: c_int = 2;
const NO_DEVICE: c_int = 100;
const INVALID_CONTEXT: c_int = 201;
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
    streams: Vec<Stream>,
    /// By event: the stream that it was recorded in, and how much of its work came before.
    events: Vec<Option<(usize, u64)>>,
    /// The first piece of work that failed: a device does nothing more.
    failed: Option<c_int>,
}

#[derive(Default)]
struct Stream {
    pending: VecDeque<Work>,
    taken: u64,
    done: u64,
}

/// A piece of a stream's work.
enum Work {
    Launch {
        function: usize,
        grid: [u32; 3],
        threads: u32,
        words: Vec<u64>,
    },
    /// From this machine's memory, which is read when the work is done.
    Write {
        address: u64,
        from: usize,
        bytes: usize,
    },
    Read {
        address: u64,
        to: usize,
        bytes: usize,
    },
    Clear {
        address: u64,
        value: u8,
        bytes: usize,
    },
    /// For another stream's work.
    Wait {
        stream: usize,
        until: u64,
    },
}

impl State {
    /// Adds work to a stream.
    fn take(&mut self, stream: usize, work: Work) -> c_int {
        if !CURRENT.get() {
            return refused(INVALID_CONTEXT, "a thread without a context");
        }
        let Some(own) = stream.checked_sub(1).and_then(|at| self.streams.get_mut(at)) else {
            return refused(INVALID_VALUE, "work for a stream that is not there");
        };
        own.pending.push_back(work);
        own.taken += 1;
        let until = own.taken;
        if stream > 1 && std::env::var("RECC_GPU_ORDER").is_ok_and(|order| order == "early") {
            self.finish(stream - 1, until)
        } else {
            SUCCESS
        }
    }

    /// Does a stream's work, up to a piece.
    fn finish(&mut self, stream: usize, until: u64) -> c_int {
        while self.streams[stream].done < until && self.failed.is_none() {
            let Some(work) = self.streams[stream].pending.pop_front() else { break };
            if let Err((code, why)) = self.work(work) {
                self.failed = Some(refused(code, &why));
            }
            self.streams[stream].done += 1;
        }
        self.failed.unwrap_or(SUCCESS)
    }

    /// Does the work of all streams.
    fn finish_all(&mut self) -> c_int {
        (0..self.streams.len()).for_each(|stream| {
            self.finish(stream, u64::MAX);
        });
        self.failed.unwrap_or(SUCCESS)
    }

    fn work(&mut self, work: Work) -> Result<(), (c_int, String)> {
        let wrong = |why| (INVALID_VALUE, why);
        match work {
            Work::Wait { stream, until } => match self.finish(stream, until) {
                SUCCESS => Ok(()),
                code => Err((code, "what it waits for failed".to_owned())),
            },
            Work::Write { address, from, bytes } => {
                // SAFETY: the interface leaves the memory as it is until the work is done; nothing is read where there are no bytes.
                let found = if bytes == 0 { &[][..] } else { unsafe { std::slice::from_raw_parts(from as *const u8, bytes) } };
                self.memory.write(address, found).map_err(wrong)
            }
            Work::Read { address, to, bytes } => {
                let found = self.memory.read(address, bytes).map_err(wrong)?;
                // SAFETY: the place has room for so many bytes until the work is done.
                unsafe { (to as *mut u8).copy_from_nonoverlapping(found.as_ptr(), bytes) };
                Ok(())
            }
            Work::Clear { address, value, bytes } => self.memory.write(address, &vec![value; bytes]).map_err(wrong),
            Work::Launch { function, grid, threads, words } => {
                let State { memory, functions, calls, .. } = self;
                let function = &functions[function];
                *calls += 1;
                let counts = run(function, &Call { grid, threads, params: &words }, *calls, memory).map_err(|why| (LAUNCH_FAILED, why))?;
                report(&function.name, counts);
                Ok(())
            }
        }
    }
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
    cuEventDestroy_v2(_event: usize);
}

/// Devices that there are.
fn devices() -> c_int {
    std::env::var("RECC_GPU_COUNT").ok().and_then(|count| count.parse().ok()).unwrap_or(1)
}

#[unsafe(no_mangle)]
extern "C" fn cuInit(_flags: c_uint) -> c_int {
    if devices() == 0 { NO_DEVICE } else { SUCCESS }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetCount(count: *mut c_int) -> c_int {
    // SAFETY: the interface's, here and below.
    unsafe { give(count, devices()) }
}

thread_local! {
    /// Whether this thread has a context.
    static CURRENT: Cell<bool> = const { Cell::new(false) };
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxSetCurrent(context: usize) -> c_int {
    CURRENT.set(context != 0);
    SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDriverGetVersion(version: *mut c_int) -> c_int {
    // SAFETY: as above.
    unsafe { give(version, std::env::var("RECC_GPU_DRIVER").ok().and_then(|version| version.parse().ok()).unwrap_or(13_000)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetName(name: *mut u8, room: c_int, _device: c_int) -> c_int {
    let own = c"an interpreter".to_bytes_with_nul();
    let count = own.len().min(room as usize);
    // SAFETY: the place has so much room.
    unsafe { name.copy_from_nonoverlapping(own.as_ptr(), count) };
    SUCCESS
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
    let number = with(|state| {
        state.streams.push(Stream::default());
        state.streams.len()
    });
    // SAFETY: as above.
    unsafe { give(stream, number) }
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamSynchronize(stream: usize) -> c_int {
    with(|state| if stream == 0 || stream > state.streams.len() { INVALID_VALUE } else { state.finish(stream - 1, u64::MAX) })
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxSynchronize() -> c_int {
    with(State::finish_all)
}

#[unsafe(no_mangle)]
extern "C" fn cuEventRecord(event: usize, stream: usize) -> c_int {
    with(|state| {
        let Some(taken) = stream.checked_sub(1).and_then(|at| state.streams.get(at)).map(|own| own.taken) else { return INVALID_VALUE };
        state.events[event - 1] = Some((stream - 1, taken));
        SUCCESS
    })
}

/// Time is not modelled: a millisecond between any two events.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuEventElapsedTime(milliseconds: *mut f32, _begin: usize, _end: usize) -> c_int {
    // SAFETY: as above.
    unsafe { give(milliseconds, 1.0) }
}

#[unsafe(no_mangle)]
extern "C" fn cuEventSynchronize(event: usize) -> c_int {
    with(|state| state.events[event - 1].map_or(SUCCESS, |(stream, until)| state.finish(stream, until)))
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamWaitEvent(stream: usize, event: usize, _flags: c_uint) -> c_int {
    // What is recorded later is not waited for.
    with(|state| match state.events[event - 1] {
        Some((other, until)) => state.take(stream, Work::Wait { stream: other, until }),
        None => SUCCESS,
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuEventCreate(event: *mut usize, _flags: c_uint) -> c_int {
    let number = with(|state| {
        state.events.push(None);
        state.events.len()
    });
    // SAFETY: as above.
    unsafe { give(event, number) }
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
    // Work that is under way may use it.
    with(State::finish_all);
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
extern "C" fn cuMemcpyHtoDAsync_v2(address: u64, from: *const u8, bytes: usize, stream: usize) -> c_int {
    with(|state| state.take(stream, Work::Write { address, from: from as usize, bytes }))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyDtoHAsync_v2(to: *mut u8, address: u64, bytes: usize, stream: usize) -> c_int {
    with(|state| state.take(stream, Work::Read { address, to: to as usize, bytes }))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemsetD8Async(address: u64, value: u8, bytes: usize, stream: usize) -> c_int {
    with(|state| state.take(stream, Work::Clear { address, value, bytes }))
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
    stream: usize,
    params: *mut *mut c_void,
    _extra: *mut *mut c_void,
) -> c_int {
    if x == 0 || y == 0 || z == 0 || y > 65_535 || z > 65_535 {
        return refused(INVALID_VALUE, "a grid that no device takes");
    }
    with(|state| {
        let Some(own) = function.checked_sub(1).and_then(|at| state.functions.get(at)) else {
            return refused(INVALID_VALUE, "no such function");
        };
        let word = |(at, bytes): (usize, &usize)| {
            let mut word = [0; 8];
            // SAFETY: the interface has an address for each parameter, where its bytes lie.
            unsafe { word.as_mut_ptr().copy_from_nonoverlapping((*params.add(at)).cast::<u8>(), *bytes) };
            u64::from_le_bytes(word)
        };
        let words = own.params.iter().enumerate().map(word).collect();
        state.take(stream, Work::Launch { function: function - 1, grid: [x, y, z], threads, words })
    })
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
        NO_DEVICE => c"CUDA_ERROR_NO_DEVICE",
        INVALID_CONTEXT => c"CUDA_ERROR_INVALID_CONTEXT",
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
