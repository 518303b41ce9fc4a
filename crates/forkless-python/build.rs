//! Tells the compiler which version of Python this is built for: the layout of integers depends on it.

fn main() {
    pyo3_build_config::use_pyo3_cfgs();
}
