//! Products of small dense matrices, and softmaxes over the rows of tables: what compiled kernels call.

mod bf16;
mod partition;
mod prepared;
mod product;
mod reduced;
mod single;

pub(crate) use prepared::Prepared;

use product::{Product, View};
use recc_abi::{KernelFunctions, STORED_F16, STORED_I8};
use reduced::{Form, Weights};

/// What compiled kernels may call.
pub static FUNCTIONS: KernelFunctions = KernelFunctions { matmul, partition: partition::partition, prepared: 0 };

/// Products of each query with each row: `[m, width]` by `[n, width]` to `[m, n]`.
pub(crate) fn products_of_rows(queries: &[f32], rows: &[f32], width: usize, out: &mut [f32]) {
    let (m, n) = (queries.len() / width.max(1), rows.len() / width.max(1));
    assert!(queries.len() == m * width && rows.len() == n * width && out.len() == m * n, "matrices of other sizes");
    let product = Product {
        m,
        n,
        k: width,
        dst: out.as_mut_ptr(),
        dst_row: n,
        a: View { start: queries.as_ptr(), row: width as isize, column: 1 },
        b: View { start: rows.as_ptr(), row: 1, column: width as isize },
        ..Product::NONE
    };
    // SAFETY: the matrices have the sizes that are asserted.
    unsafe { single::matmul(&product) };
}

/// See [`recc_abi::MatMulFn`].
unsafe extern "C" fn matmul(
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
) {
    // SAFETY: the kernel hands on what the engine gave it, which outlives the call.
    let prepared = unsafe { ((*functions).prepared as *const Prepared).as_ref() };
    let prepared = prepared.map_or(std::ptr::null(), |prepared| prepared.find(b, (k, n), (b_row, b_column), bf16 != 0));
    let product = Product {
        m: m as usize,
        n: n as usize,
        k: k as usize,
        dst,
        dst_row: dst_row as usize,
        a: View { start: a, row: a_row as isize, column: a_column as isize },
        b: View { start: b.cast(), row: b_row as isize, column: b_column as isize },
        accumulate: accumulate != 0,
        count: count as usize,
        dst_item: dst_item as usize,
        a_item: a_item as isize,
        b_item: b_item as isize,
        prepared,
    };
    // SAFETY: the kernel passes matrices inside its buffers, whose sizes the plan fixed.
    unsafe {
        let multiply = if bf16 == 0 { single::matmul } else { bf16::matmul };
        let form = match stored {
            STORED_F16 => Form::Half,
            STORED_I8 => Form::Byte(scales),
            _ => return multiply(&product),
        };
        reduced::matmul(&product, Weights { start: b, form, stride: b_row as usize }, bf16 == 0, multiply);
    }
}
