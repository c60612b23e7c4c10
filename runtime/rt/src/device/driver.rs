//! The driver of NVIDIA GPUs: one device, its work in two queues, one module. What it refuses becomes a failure that says what to do.

use crate::failure::Failure;
use crate::memory::size_text;
use cudarc::driver::{DriverError, result, sys};
use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_void};
use std::sync::OnceLock;
use std::time::Duration;

/// The device, with this executable's module.
pub(crate) struct Device {
    /// As the driver has it.
    pub(crate) name: String,
    context: sys::CUcontext,
    work: sys::CUstream,
    copies: sys::CUstream,
    functions: BTreeMap<String, Function>,
}

/// A function of the module.
#[derive(Clone, Copy)]
pub(crate) struct Function(sys::CUfunction);

// SAFETY: the handles belong to the driver, whose functions may be called from any thread.
unsafe impl Send for Device {}
// SAFETY: as above.
unsafe impl Sync for Device {}
// SAFETY: as above.
unsafe impl Send for Function {}
// SAFETY: as above.
unsafe impl Sync for Function {}

/// An order of work of its own.
#[derive(Clone, Copy)]
pub(crate) enum Queue {
    /// Kernels, and copies that they wait for.
    Work,
    /// Copies beside them.
    Copies,
}

/// A moment in a queue that another one can wait for; nobody waits for one that was never recorded.
pub(crate) struct Event(sys::CUevent);

// SAFETY: the handle belongs to the driver.
unsafe impl Send for Event {}
// SAFETY: as above.
unsafe impl Sync for Event {}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: the driver keeps what still waits for it.
        let _ = unsafe { result::event::destroy(self.0) };
    }
}

/// The time between two moments of the device.
pub(crate) struct Timer {
    device: &'static Device,
    begin: Event,
    end: Event,
}

impl Timer {
    /// Waits for the kernels since it began, and says how long they took.
    pub(crate) fn stop(self) -> Result<Duration, Failure> {
        self.device.record(&self.end, Queue::Work)?;
        self.device.reach(&self.end)?;
        // SAFETY: both moments have been reached.
        let milliseconds = unsafe { result::event::elapsed(self.begin.0, self.end.0) }.map_err(|error| failed("be timed", error))?;
        Ok(Duration::from_secs_f64(f64::from(milliseconds.max(0.0)) / 1e3))
    }
}

/// The release whose drivers take PTX 7.0 and know all that is called here.
const LEAST_DRIVER: i32 = 11_000;

/// What of the driver is at fault.
fn failed(what: &str, error: DriverError) -> Failure {
    use sys::CUresult as R;
    let name = error.error_name().ok().and_then(|name| name.to_str().ok()).unwrap_or("unknown error").to_owned();
    // What only this program's kernels and calls can bring about; kernels fail later than they are started.
    let ours = [
        R::CUDA_ERROR_INVALID_PTX,
        R::CUDA_ERROR_NOT_FOUND,
        R::CUDA_ERROR_INVALID_VALUE,
        R::CUDA_ERROR_INVALID_CONTEXT,
        R::CUDA_ERROR_INVALID_HANDLE,
        R::CUDA_ERROR_ILLEGAL_ADDRESS,
        R::CUDA_ERROR_MISALIGNED_ADDRESS,
        R::CUDA_ERROR_LAUNCH_FAILED,
        R::CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES,
    ];
    if ours.contains(&error.0) {
        return Failure::internal("a kernel or a call of the GPU", format!("it cannot {what}: {name}"));
    }
    Failure::input(format!(
        "the GPU cannot {what}: {name}\nhelp: look at `nvidia-smi`; the same spec built with `--target cpu` needs no GPU"
    ))
}

/// The device, opened once for the process; `code` is the module's text, and `names` its functions.
pub(crate) fn open(code: &[u8], names: impl Iterator<Item = String>) -> Result<&'static Device, Failure> {
    static DEVICE: OnceLock<Result<Device, Failure>> = OnceLock::new();
    DEVICE.get_or_init(|| Device::open(code, names)).as_ref().map_err(Clone::clone)
}

impl Device {
    fn open(code: &[u8], names: impl Iterator<Item = String>) -> Result<Device, Failure> {
        const HELP: &str = "help: install NVIDIA's driver, or build the spec with `--target cpu`";
        const NONE: &str = "help: look at `nvidia-smi` and at CUDA_VISIBLE_DEVICES, or build the spec with `--target cpu`";
        // SAFETY: loads a library of the system. Without asking, the first call would panic where there is none.
        if !unsafe { sys::is_culib_present() } {
            return Err(Failure::input(format!("this model is built for NVIDIA GPUs, and there is no driver (libcuda.so.1)\n{HELP}")));
        }
        let count = match result::init() {
            Err(error) if error.0 == sys::CUresult::CUDA_ERROR_NO_DEVICE => 0,
            started => started.and_then(|()| result::device::get_count()).map_err(|error| failed("be started", error))?,
        };
        if count == 0 {
            return Err(Failure::input(format!("this model is built for NVIDIA GPUs, and the driver finds none\n{NONE}")));
        }
        let mut version = 0;
        // SAFETY: the place is one of this function's.
        unsafe { sys::cuDriverGetVersion(&raw mut version) }.result().map_err(|error| failed("be asked", error))?;
        if version < LEAST_DRIVER {
            return Err(Failure::input(format!(
                "NVIDIA's driver is of CUDA {}.{}, and this model needs 11.0\n{HELP}",
                version / 1000,
                version % 1000 / 10
            )));
        }
        let device = result::device::get(0).map_err(|error| failed("be opened", error))?;
        use sys::CUdevice_attribute::{CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR};
        // SAFETY: the device is the one above.
        let capability = unsafe {
            [CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR]
                .map(|which| result::device::get_attribute(device, which))
        };
        let [major, minor] = capability.map(|own| own.map_err(|error| failed("be asked", error)));
        let (major, minor) = (major?, minor?);
        if major < 8 {
            return Err(Failure::input(format!(
                "the GPU has compute capability {major}.{minor}, and this model needs 8.0\nhelp: use an A100 or later, or build the spec with `--target cpu`"
            )));
        }
        // SAFETY: the device is the one above, and the context lives as long as the process.
        let context = unsafe { result::primary_ctx::retain(device).and_then(|own| result::ctx::set_current(own).map(|()| own)) };
        let context = context.map_err(|error| failed("be opened", error))?;
        let stream = || result::stream::create(result::stream::StreamKind::NonBlocking).map_err(|error| failed("take work", error));
        let (work, copies) = (stream()?, stream()?);
        let module = load(code)?;
        let mut functions = BTreeMap::new();
        for name in names {
            let symbol = CString::new(name.as_str()).map_err(|error| Failure::internal("start", error))?;
            // SAFETY: the module is loaded.
            let function = unsafe { result::module::get_function(module, symbol) };
            functions.insert(name.clone(), Function(function.map_err(|error| failed(&format!("find `{name}`"), error))?));
        }
        let name = result::device::get_name(device).map_err(|error| failed("be asked", error))?;
        Ok(Device { name, context, work, copies, functions })
    }

    /// Lets this thread talk to the device.
    pub(crate) fn enter(&self) -> Result<(), Failure> {
        // SAFETY: the context lives as long as the process.
        unsafe { result::ctx::set_current(self.context) }.map_err(|error| failed("be opened", error))
    }

    pub(crate) fn function(&self, name: &str) -> Result<Function, Failure> {
        self.functions.get(name).copied().ok_or_else(|| Failure::internal("start", format!("the module has no `{name}`")))
    }

    fn stream(&self, queue: Queue) -> sys::CUstream {
        match queue {
            Queue::Work => self.work,
            Queue::Copies => self.copies,
        }
    }

    /// Waits for all kernels, and the copies among them.
    pub(crate) fn wait(&self) -> Result<(), Failure> {
        // SAFETY: the stream lives as long as the process.
        unsafe { result::stream::synchronize(self.work) }.map_err(|error| failed("finish its work", error))
    }

    pub(crate) fn event(&self) -> Result<Event, Failure> {
        result::event::create(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING).map(Event).map_err(|error| failed("take work", error))
    }

    /// Begins to time the kernels that follow.
    pub(crate) fn timer(&'static self) -> Result<Timer, Failure> {
        let event = || result::event::create(sys::CUevent_flags::CU_EVENT_DEFAULT).map(Event).map_err(|error| failed("be timed", error));
        let timer = Timer { device: self, begin: event()?, end: event()? };
        self.record(&timer.begin, Queue::Work)?;
        Ok(timer)
    }

    /// The moment when all work of a queue so far has ended.
    pub(crate) fn record(&self, event: &Event, queue: Queue) -> Result<(), Failure> {
        // SAFETY: event and stream live.
        unsafe { result::event::record(event.0, self.stream(queue)) }.map_err(|error| failed("take work", error))
    }

    /// Waits for a moment.
    pub(crate) fn reach(&self, event: &Event) -> Result<(), Failure> {
        // SAFETY: the event lives.
        unsafe { result::event::synchronize(event.0) }.map_err(|error| failed("finish its work", error))
    }

    /// Lets a queue's further work wait for a moment.
    pub(crate) fn wait_for(&self, event: &Event, queue: Queue) -> Result<(), Failure> {
        let flags = sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
        // SAFETY: event and stream live.
        unsafe { result::stream::wait_event(self.stream(queue), event.0, flags) }.map_err(|error| failed("take work", error))
    }

    /// Starts a function, behind all work before.
    ///
    /// # Safety
    /// The words are the function's parameters, and name memory of the device that outlives the work.
    pub(crate) unsafe fn launch(&self, function: Function, blocks: recc_abi::Blocks, words: &mut [u64]) -> Result<(), Failure> {
        // A parameter is read in its own size: the first bytes of a word on machines of this byte order.
        let mut params: Vec<*mut c_void> = words.iter_mut().map(|word| std::ptr::from_mut(word).cast()).collect();
        let [x, y, z] = blocks.grid;
        // SAFETY: the caller's.
        let started = unsafe { result::launch_kernel(function.0, (x, y, z), (blocks.threads, 1, 1), 0, self.work, &mut params) };
        started.map_err(|error| failed("start a kernel", error))
    }
}

/// Something does not fit.
pub(crate) fn no_room(what: &str, bytes: usize) -> Failure {
    let (free, all) = result::mem_get_info().unwrap_or_default();
    let [wanted, free, all] = [bytes, free, all].map(|bytes| size_text(bytes as f64));
    Failure::input(format!(
        "the GPU has no room for {what}, {wanted}: {free} of its {all} are free\nhelp: make tables or the batch that is trained smaller (`dim`, `hash`, `min_count`, `batch`), end what else uses the GPU, or build the spec with `--target cpu`"
    ))
}

/// Bytes of the device's memory that nobody uses.
pub(crate) fn free_bytes() -> Result<usize, Failure> {
    result::mem_get_info().map(|(free, _)| free).map_err(|error| failed("be asked", error))
}

/// Compiles the module's text; what the driver says of it is shown.
fn load(code: &[u8]) -> Result<sys::CUmodule, Failure> {
    use sys::CUjit_option::{CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
    const ROOM: usize = 4096;
    let text = CString::new(code).map_err(|error| Failure::internal("start", error))?;
    let mut log = vec![0u8; ROOM];
    let mut options = [CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
    let mut values = [log.as_mut_ptr().cast::<c_void>(), ROOM as *mut c_void];
    let mut module = std::ptr::null_mut();
    // SAFETY: the text ends with 0; options and values agree, and the log has its room.
    let loaded = unsafe { sys::cuModuleLoadDataEx(&raw mut module, text.as_ptr().cast(), 2, options.as_mut_ptr(), values.as_mut_ptr()) };
    loaded.result().map(|()| module).map_err(|error| {
        let said = CStr::from_bytes_until_nul(&log).map(|said| said.to_string_lossy().into_owned()).unwrap_or_default();
        let Failure { status, message } = failed("load the model's code", error);
        Failure { status, message: if said.is_empty() { message } else { format!("{message}\n{}", said.trim_end()) } }
    })
}

/// Memory of the device, given back when it is dropped.
pub(crate) struct DeviceMemory {
    device: &'static Device,
    address: sys::CUdeviceptr,
    bytes: usize,
}

impl DeviceMemory {
    /// Memory whose bytes are not known.
    pub(crate) fn new(device: &'static Device, bytes: usize) -> Result<DeviceMemory, Failure> {
        // SAFETY: the device is current, and the memory is written before it is read: see the plan's order.
        let address = unsafe { result::malloc_sync(bytes.max(16)) };
        let address = address.map_err(|error| match error.0 {
            sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => no_room("the values of a batch", bytes),
            _ => failed("give memory", error),
        })?;
        Ok(DeviceMemory { device, address, bytes })
    }

    /// Makes room for so many bytes, if there is less; what is held is lost then. `bytes` differ from batch to batch, so half as many again are taken where they are free.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), Failure> {
        if bytes > self.bytes {
            // The old memory goes first: both may not fit.
            self.free();
            *self = DeviceMemory::new(self.device, bytes + bytes / 2).or_else(|_| DeviceMemory::new(self.device, bytes))?;
        }
        Ok(())
    }

    /// Gives the memory back, once no work can use it.
    fn free(&mut self) {
        // A device that has failed gives nothing back, and says so elsewhere.
        let _ = self.device.enter().map(|()| result::ctx::synchronize());
        if self.address != 0 {
            // SAFETY: nothing uses the memory any more.
            let _ = unsafe { result::free_sync(self.address) };
        }
        (self.address, self.bytes) = (0, 0);
    }

    pub(crate) fn address(&self) -> u64 {
        self.address
    }

    /// Copies to the device, and waits for it.
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<(), Failure> {
        // SAFETY: the wait ends with the copy.
        unsafe { self.write_in(bytes, Queue::Work)? };
        self.device.wait()
    }

    /// Copies to the device, behind all work of a queue before.
    ///
    /// # Safety
    /// The bytes stay as they are until the copy has ended.
    pub(crate) unsafe fn write_in(&self, bytes: &[u8], queue: Queue) -> Result<(), Failure> {
        assert!(bytes.len() <= self.bytes, "more bytes than the device's memory has");
        // SAFETY: the memory has room; the rest is the caller's.
        unsafe { result::memcpy_htod_async(self.address, bytes, self.device.stream(queue)) }.map_err(|error| failed("take data", error))
    }

    /// Copies from the device, and waits for all work before.
    pub(crate) fn read(&self, offset: usize, out: &mut [u8]) -> Result<(), Failure> {
        assert!(offset + out.len() <= self.bytes, "more bytes than the device's memory has");
        // SAFETY: the memory holds the bytes, and `out` is not used before the wait returns.
        unsafe { result::memcpy_dtoh_async(out, self.address + offset as u64, self.device.work) }
            .map_err(|error| failed("give data", error))?;
        self.device.wait()
    }

    /// Zeroes the first bytes, behind all work before.
    pub(crate) fn clear(&self, bytes: usize) -> Result<(), Failure> {
        assert!(bytes <= self.bytes, "more bytes than the device's memory has");
        // SAFETY: the memory has the bytes.
        unsafe { result::memset_d8_async(self.address, 0, bytes, self.device.work) }.map_err(|error| failed("clear memory", error))
    }
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        self.free();
    }
}

/// Memory of this machine that the device reads directly.
pub(crate) struct Staging {
    device: &'static Device,
    words: *mut u32,
    len: usize,
}

// SAFETY: the memory is owned.
unsafe impl Send for Staging {}
// SAFETY: shared access reads nothing.
unsafe impl Sync for Staging {}

impl Staging {
    pub(crate) fn new(device: &'static Device, len: usize) -> Result<Staging, Failure> {
        // SAFETY: a device is current.
        let memory = unsafe { result::malloc_host(4 * len.max(1), 0) }.map_err(|error| failed("reach this machine's memory", error))?;
        // SAFETY: the memory has so many bytes.
        unsafe { std::ptr::write_bytes(memory.cast::<u8>(), 0, 4 * len) };
        Ok(Staging { device, words: memory.cast(), len })
    }

    pub(crate) fn words(&mut self) -> &mut [u32] {
        // SAFETY: the memory holds so many words, zero at first, and `&mut self` makes the access the only one.
        unsafe { std::slice::from_raw_parts_mut(self.words, self.len) }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        let _ = self.device.enter().map(|()| result::ctx::synchronize());
        // SAFETY: the memory came from `malloc_host`, and no copy from it is under way.
        let _ = unsafe { result::free_host(self.words.cast()) };
    }
}
