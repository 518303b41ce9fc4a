//! `native-threads-after-fork`: libraries with threads and devices of their own are dead in a forked child.

use crate::model::{Call, Method, Module};
use crate::syntax::ast::Expr;

use super::{Facts, Hit};

/// FL120.
pub fn used_before_fork(facts: &Facts<'_>) -> Vec<Hit> {
    let module = &facts.module;
    let mut hits: Vec<Hit> = Vec::new();
    for start in facts.processes.starts.iter().filter(|start| start.method == Method::Fork) {
        let fork = &module.calls[start.call];
        let used = module.calls.iter().find_map(|call| {
            let library = library_used(module, call)?;
            let is_before =
                module.comes_before(call, fork) || (module.is_at_import(call) && !module.is_at_import(fork));
            is_before.then_some((library, call.range()))
        });
        if let Some((library, range)) = used
            && !hits.iter().any(|hit| hit.range == fork.range())
        {
            let message = format!(
                "{library} has been used before this {} forks (line {}): its threads and devices do not exist \
                 in the child",
                start.what,
                facts.line_of(range)
            );
            hits.push(Hit { range: fork.range(), message });
        }
    }
    hits
}

/// The library whose threads or devices a call starts.
fn library_used<'a>(module: &Module<'a>, call: &Call<'a>) -> Option<&'static str> {
    if let Some(path) = module.path(&call.expr.func) {
        let starts_with = |prefix: &str| path.starts_with(prefix);
        let harmless = ["is_available", "device_count", "set_verbosity", "Config", "col", "lit"];
        if harmless.contains(&call.name()) {
            return None;
        }
        return match () {
            () if starts_with("torch.cuda.") => Some("CUDA"),
            () if matches!(
                &*path,
                "grpc.insecure_channel"
                    | "grpc.secure_channel"
                    | "grpc.server"
                    | "grpc.aio.server"
                    | "grpc.aio.insecure_channel"
            ) =>
            {
                Some("gRPC")
            }
            () if starts_with("polars.read_")
                || starts_with("polars.scan_")
                || matches!(&*path, "polars.DataFrame" | "polars.LazyFrame") =>
            {
                Some("polars")
            }
            () if starts_with("jax.numpy.") || starts_with("jax.random.") || starts_with("jax.device") => Some("JAX"),
            () if starts_with("cupy.") => Some("CUDA"),
            () if starts_with("torch.") => made_on(call),
            () => None,
        };
    }
    moved(call)
}

/// `tensor.cuda()` and `.to("cuda")`.
fn moved(call: &Call<'_>) -> Option<&'static str> {
    let to = call.name() == "to" && call.argument("device", 0).is_some_and(names_cuda);
    (to || (call.name() == "cuda" && call.receiver().is_some())).then_some("CUDA")
}

/// `torch.zeros(3, device="cuda")`.
fn made_on(call: &Call<'_>) -> Option<&'static str> {
    let device = call.expr.arguments.find_keyword("device");
    device.is_some_and(|keyword| names_cuda(&keyword.value)).then_some("CUDA")
}

fn names_cuda(expr: &Expr) -> bool {
    expr.as_string_literal_expr().is_some_and(|text| text.value.to_str().starts_with("cuda"))
}
