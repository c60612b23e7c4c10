//! How the runtime calls kernels and what kernels may call.

/// A kernel: works on `rows` items from `start`.
///
/// `pointers` holds the base address of every buffer of the plan, this thread's scratch and this lane's accumulators
/// among them; `functions` is a [`KernelFunctions`].
pub type KernelFn = unsafe extern "C" fn(pointers: *const *mut u8, start: i64, rows: i64, functions: *const KernelFunctions);

/// Matrix product `dst (+)= a · b` of an m×k and a k×n matrix of `f32`; `functions` is what the kernel was given, and strides are in elements. It is repeated `count` times,
/// with each matrix moved by its `_item`. Factors are rounded to bfloat16 where `bf16` is not 0.
///
/// `b` holds `f32` where `stored` is 0, `f16` where it is [`STORED_F16`], and where it is [`STORED_I8`] `i8`, each multiplied by its row's number in `scales`. The columns
/// of what is not `f32` are adjacent.
pub type MatMulFn = unsafe extern "C" fn(
    functions: *const KernelFunctions,
    m: i64,
    n: i64,
    k: i64,
    dst: *mut f32,
    dst_row: i64,
    a: *const f32,
    a_row: i64,
    a_column: i64,
    b: *const u8,
    b_row: i64,
    b_column: i64,
    accumulate: i64,
    count: i64,
    dst_item: i64,
    a_item: i64,
    b_item: i64,
    bf16: i64,
    stored: i64,
    scales: *const f32,
);

/// A matrix product whose right factor holds 16-bit floats.
pub const STORED_F16: i64 = 1;
/// A matrix product whose right factor holds 8-bit integers.
pub const STORED_I8: i64 = 2;

/// What is computed of a softmax over all rows of a table but row 0, which stands for what is unseen: see [`PartitionFn`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i64)]
pub enum PartitionPart {
    /// The log of the sum of the exponentials of a query's products with the rows.
    LogSums = 0,
    /// The rows' mean by their probabilities, times a query's number.
    MeanRows = 1,
    /// The sum of the queries, each times its number and the row's probability.
    SumsOfQueries = 2,
}

/// A part of a softmax over the products of queries, `[queries, width]`, with the rows of a table, `[rows, width]`, of which the first is row `first` of the table.
/// `log_sums` and `factors` hold a number for each query, and are not read for [`PartitionPart::LogSums`]. `dst` is `[queries]`, `[queries, width]` or
/// `[rows, width]`.
pub type PartitionFn = unsafe extern "C" fn(
    part: i64,
    width: i64,
    queries: i64,
    rows: i64,
    first: i64,
    query: *const f32,
    row: *const f32,
    log_sums: *const f32,
    factors: *const f32,
    dst: *mut f32,
);

/// The functions kernels may call, by position.
#[repr(C)]
pub struct KernelFunctions {
    /// `recc_rt_matmul`
    pub matmul: MatMulFn,
    /// `recc_rt_partition`
    pub partition: PartitionFn,
    /// The runtime's own, behind the functions: kernels do not look at it. 0 where there is nothing.
    pub prepared: usize,
}
