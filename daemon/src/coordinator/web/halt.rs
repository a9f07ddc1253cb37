//! Halt, and the safety lever.

use std::sync::Arc;

use axum::extract::{Extension, Path, State};
use axum::response::Redirect;

use super::guard::Visitor;
use crate::coordinator::Coordinator;
use crate::coordinator::api::problem::ApiError;
use crate::coordinator::api::{lever, runs};

pub async fn one(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(visitor): Extension<Visitor>,
    Path(run): Path<String>,
) -> Result<Redirect, ApiError> {
    let caller = Extension(visitor.caller.clone());
    let headers = visitor.headers.clone();
    let halted = runs::halt(State(coordinator.clone()), caller, Path(run.clone()), headers).await?;
    let notice = match halted.runs.first() {
        Some(_) => "Halt was sent: everything that this run injected is being undone.",
        None => "This run is not active any more: there was nothing to halt.",
    };
    coordinator.sessions.tell(&visitor.session, notice.to_owned());
    let run = runs::find(&coordinator, &run)?;
    Ok(Redirect::to(&format!("/ui/runs/{run}")))
}

pub async fn all(State(coordinator): State<Arc<Coordinator>>, Extension(visitor): Extension<Visitor>) -> Redirect {
    let caller = Extension(visitor.caller.clone());
    let halted = runs::halt_all(State(coordinator.clone()), caller, visitor.headers.clone()).await;
    let count = halted.runs.len();
    let plural = if count == 1 { "1 active run".to_owned() } else { format!("{count} active runs") };
    let notice = format!("Halt was sent to {plural} and to every connected node: everything is being undone.");
    coordinator.sessions.tell(&visitor.session, notice);
    match halted.runs.as_slice() {
        [run] => Redirect::to(&format!("/ui/runs/{run}")),
        _ => Redirect::to("/ui/runs"),
    }
}

pub async fn engage(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(visitor): Extension<Visitor>,
) -> Result<Redirect, ApiError> {
    let _ = lever::engage(State(coordinator), Extension(visitor.caller), visitor.headers).await?;
    Ok(Redirect::to("/ui/runs"))
}

pub async fn release(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(visitor): Extension<Visitor>,
) -> Result<Redirect, ApiError> {
    let _ = lever::release(State(coordinator), Extension(visitor.caller), visitor.headers).await?;
    Ok(Redirect::to("/ui/runs"))
}
