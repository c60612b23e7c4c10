//! What is multiplied: matrices by their strides.

/// A matrix by its strides.
#[derive(Clone, Copy)]
pub(crate) struct View {
    pub(crate) start: *const f32,
    pub(crate) row: isize,
    pub(crate) column: isize,
}

impl View {
    /// The element's address; to be read only inside the matrix.
    #[inline(always)]
    pub(crate) fn at(self, row: usize, column: usize) -> *const f32 {
        self.start.wrapping_offset(row as isize * self.row + column as isize * self.column)
    }
}

/// A product `dst (+)= a · b`, `[m, k]` by `[k, n]`.
#[derive(Clone, Copy)]
pub(crate) struct Product {
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
    pub(crate) dst: *mut f32,
    pub(crate) dst_row: usize,
    pub(crate) a: View,
    pub(crate) b: View,
    pub(crate) accumulate: bool,
    /// How many products, and how far their matrices lie apart.
    pub(crate) count: usize,
    pub(crate) dst_item: usize,
    pub(crate) a_item: isize,
    pub(crate) b_item: isize,
    /// `b` as [`super::prepared`] copied it, or null.
    pub(crate) prepared: *const u8,
}

impl Product {
    /// A single product of nothing.
    pub(crate) const NONE: Product = {
        let nothing = View { start: std::ptr::null(), row: 0, column: 0 };
        Product {
            m: 0,
            n: 0,
            k: 0,
            dst: std::ptr::null_mut(),
            dst_row: 0,
            a: nothing,
            b: nothing,
            accumulate: false,
            count: 1,
            dst_item: 0,
            a_item: 0,
            b_item: 0,
            prepared: std::ptr::null(),
        }
    };

    /// The product of one item.
    #[inline(always)]
    pub(crate) fn of_item(&self, item: usize) -> Product {
        let moved = |view: View, stride: isize| View { start: view.start.wrapping_offset(item as isize * stride), ..view };
        Product { dst: self.dst.wrapping_add(item * self.dst_item), a: moved(self.a, self.a_item), b: moved(self.b, self.b_item), ..*self }
    }
}

#[cfg(test)]
impl Product {
    /// A single product whose matrices are still to be named.
    pub(crate) fn of_sizes(m: usize, n: usize, k: usize, accumulate: bool) -> Product {
        Product { m, n, k, accumulate, ..Product::NONE }
    }
}
