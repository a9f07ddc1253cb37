//! From an experiment to a plan or a run.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, StatusCode};
use rand::Rng as _;
use squall_experiments::api::{Created, Planned, Rerun, Submit};
use squall_experiments::experiment::Experiment;
use squall_experiments::inventory::Node;
use squall_experiments::mistake::Mistake;
use squall_experiments::parse;
use squall_experiments::plan::{self, Plan};
use squall_experiments::run_event::{Event, RunEvent};
use squall_experiments::select;

use super::auth::Caller;
use super::problem::{ApiError, Body};
use super::runs::{find, stored_events};
use crate::coordinator::Coordinator;
use crate::coordinator::runs::nodes_of;

/// For agents that have just connected and still try what their hosts can do.
const TRYING: Duration = Duration::from_secs(3);

/// Resolves an experiment and asks every agent what it would do. Nothing is done.
#[utoipa::path(post, path = "/v1/plans", request_body = ref("#/components/schemas/Submit"),
    responses((status = 200, body = ref("#/components/schemas/Planned")), (status = 400, body = ref("#/components/schemas/Problem")),
        (status = 422, body = ref("#/components/schemas/Problem"))))]
pub async fn plan(
    State(coordinator): State<Arc<Coordinator>>,
    Body(submit): Body<Submit>,
) -> Result<Json<Planned>, ApiError> {
    let (experiment, seed) = read(&submit)?;
    let plan = resolve(&coordinator, &experiment, seed).await?;
    let checks = coordinator.runs.check(&plan).await;
    Ok(Json(Planned { plan, checks }))
}

/// Starts a run. A refusal by admission is a run with the verdict `refused`.
#[utoipa::path(post, path = "/v1/runs", request_body = ref("#/components/schemas/Submit"),
    responses((status = 201, body = ref("#/components/schemas/Created")), (status = 400, body = ref("#/components/schemas/Problem")),
        (status = 422, body = ref("#/components/schemas/Problem"))))]
pub async fn run(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Body(submit): Body<Submit>,
) -> Result<(StatusCode, Json<Created>), ApiError> {
    let (experiment, seed) = read(&submit)?;
    let run = start(&coordinator, &experiment, seed, caller.by(&headers)).await?;
    Ok((StatusCode::CREATED, Json(Created { run })))
}

/// Repeats a run with its seed: its very plan, or planned anew against today's inventory.
#[utoipa::path(post, path = "/v1/runs/{run}/rerun", params(("run" = String, Path)), request_body = ref("#/components/schemas/Rerun"),
    responses((status = 201, body = ref("#/components/schemas/Created")), (status = 404, body = ref("#/components/schemas/Problem")),
        (status = 422, body = ref("#/components/schemas/Problem"))))]
pub async fn rerun(
    State(coordinator): State<Arc<Coordinator>>,
    Extension(caller): Extension<Caller>,
    Path(run): Path<String>,
    headers: HeaderMap,
    Body(rerun): Body<Rerun>,
) -> Result<(StatusCode, Json<Created>), ApiError> {
    let run = find(&coordinator, &run)?;
    let first = stored_events(&coordinator, &run).await?.into_iter().next();
    let Some(RunEvent { event: Event::Submitted { plan: old, .. }, .. }) = first else {
        return Err(ApiError::not_found(format!("run {run} has no plan")));
    };
    let plan = if rerun.same_targets {
        let gone: Vec<String> = nodes_of(&old).into_iter().filter(|node| !coordinator.hub.is_connected(node)).collect();
        if !gone.is_empty() {
            let why =
                gone.iter().map(|node| format!("{node}: its agent is not connected, and the same targets are wanted"));
            return Err(ApiError::refused(why.collect()));
        }
        *old
    } else {
        plan_now(&coordinator, &old.experiment, old.seed).await?
    };
    let run = coordinator.runs.start(plan, caller.by(&headers)).await?;
    Ok((StatusCode::CREATED, Json(Created { run })))
}

/// Plans an experiment and starts it, whoever asks: a person, a schedule, a game day.
pub async fn start(
    coordinator: &Coordinator,
    experiment: &Experiment,
    seed: Option<u64>,
    by: String,
) -> Result<String, ApiError> {
    let plan = resolve(coordinator, experiment, seed).await?;
    Ok(coordinator.runs.start(plan, by).await?)
}

fn read(submit: &Submit) -> Result<(Experiment, Option<u64>), ApiError> {
    let experiment = match &submit.experiment {
        // Its author's own text: places in it mean something.
        serde_json::Value::String(text) => parse::parse("experiment", text)
            .map_err(|mistakes| ApiError::invalid(mistakes.mistakes.iter().map(told_with_place).collect()))?,
        document => parse::parse("experiment", &document.to_string())
            .map_err(|mistakes| ApiError::invalid(mistakes.mistakes.iter().map(told).collect()))?,
    };
    Ok((experiment, submit.seed))
}

/// Against the live inventory, with this seed, the experiment's own, or a drawn one.
pub async fn resolve(coordinator: &Coordinator, experiment: &Experiment, seed: Option<u64>) -> Result<Plan, ApiError> {
    // 48 bits: exact in every JSON reader.
    let seed = seed.or(experiment.seed).unwrap_or_else(|| rand::rng().random_range(0..1 << 48));
    plan_now(coordinator, experiment, seed).await
}

async fn plan_now(coordinator: &Coordinator, experiment: &Experiment, seed: u64) -> Result<Plan, ApiError> {
    let cannot = coordinator.runs.cannot_probe(experiment);
    if !cannot.is_empty() {
        return Err(ApiError::refused(cannot));
    }
    let targets: Vec<_> =
        experiment.method.iter().filter(|step| step.fault.is_some()).map(|step| &step.on.nodes).collect();
    if !targets.is_empty() {
        let is_target = |node: &Node| targets.iter().any(|nodes| select::matches(nodes, node));
        coordinator.hub.wait_tried(is_target, TRYING).await;
    }
    plan::resolve(experiment, &coordinator.hub.inventory(), seed).map_err(|refused| ApiError::refused(refused.reasons))
}

/// By its pointer: lines and columns of what was sent mean nothing to its author.
pub fn told(mistake: &Mistake) -> String {
    let place = if mistake.pointer.is_empty() { String::new() } else { format!("{}: ", mistake.pointer) };
    let hint = if mistake.hint.is_empty() { String::new() } else { format!(" (hint: {})", mistake.hint) };
    format!("{place}{}{hint}", mistake.message)
}

/// Of a text that its author wrote and sent as it is.
fn told_with_place(mistake: &Mistake) -> String {
    format!("line {}, column {}: {}", mistake.line, mistake.column, told(mistake))
}
