//! The management API: HTTP/JSON over a Unix socket.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/status` | [`Status`](crate::model::Status) |
//! | `GET /v1/volumes` | list of [`VolumeStatus`] |
//! | `GET /v1/volumes/NAME` | [`VolumeStatus`] |
//! | `POST /v1/volumes` | [`VolumeStatus`] of the new volume, 201 |
//! | `DELETE /v1/volumes/NAME` | [`Deleted`] |
//! | `GET /v1/volumes/NAME/connect` | [`ConnectInfo`] |
//! | `DELETE /v1/volumes/NAME/reservations` | [`Cleared`] |
//! | `GET /v1/pools` | list of [`PoolStatus`] |
//! | `GET /metrics` | Prometheus text |
//!
//! An answer that is not a success carries a [`Problem`](crate::model::Problem).

use std::future::Future;
use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};

use crate::error::ControlError;
use crate::metrics;
use crate::model::{Cleared, ConnectInfo, CreateVolume, Deleted, PoolStatus, Status, VolumeStatus};

/// What the management plane asks of the data plane. The binary implements it with messages to the
/// data cores; nothing here ever runs on one.
pub trait Appliance: Send + Sync + 'static {
    /// Everything that `bedplate status` and the metrics show. Cost: one message to each core.
    fn status(&self) -> impl Future<Output = Result<Status, ControlError>> + Send;
    /// Creates a volume and starts to export it. Durable when the answer is a success.
    fn create_volume(
        &self,
        request: CreateVolume,
    ) -> impl Future<Output = Result<VolumeStatus, ControlError>> + Send;
    /// Stops the export, ends the hosts' connections to it, frees its space. Not to be undone.
    fn delete_volume(
        &self,
        name: String,
    ) -> impl Future<Output = Result<Deleted, ControlError>> + Send;
    /// Clears the reservations and registrations of all hosts, also what cannot be read of them.
    /// Durable when the answer is a success.
    fn clear_reservations(
        &self,
        name: String,
    ) -> impl Future<Output = Result<Cleared, ControlError>> + Send;
    /// How a host attaches the volume.
    fn connect_info(
        &self,
        name: String,
    ) -> impl Future<Output = Result<ConnectInfo, ControlError>> + Send;
}

/// All routes of the management socket.
pub fn router<A: Appliance>(appliance: Arc<A>) -> Router {
    Router::new()
        .route("/v1/status", get(status::<A>))
        .route("/v1/pools", get(pools::<A>))
        .route("/v1/volumes", get(volumes::<A>).post(create::<A>))
        .route("/v1/volumes/{name}", get(volume::<A>).delete(delete::<A>))
        .route("/v1/volumes/{name}/connect", get(connect::<A>))
        .route(
            "/v1/volumes/{name}/reservations",
            axum::routing::delete(clear_reservations::<A>),
        )
        .route("/metrics", get(prometheus::<A>))
        .fallback(unknown)
        .with_state(appliance)
}

/// The metrics alone, for the TCP listener that a Prometheus server scrapes.
pub fn metrics_router<A: Appliance>(appliance: Arc<A>) -> Router {
    Router::new()
        .route("/metrics", get(prometheus::<A>))
        .fallback(unknown)
        .with_state(appliance)
}

async fn status<A: Appliance>(State(a): State<Arc<A>>) -> Result<Json<Status>, ControlError> {
    a.status().await.map(Json)
}

async fn pools<A: Appliance>(
    State(a): State<Arc<A>>,
) -> Result<Json<Vec<PoolStatus>>, ControlError> {
    Ok(Json(a.status().await?.pools))
}

async fn volumes<A: Appliance>(
    State(a): State<Arc<A>>,
) -> Result<Json<Vec<VolumeStatus>>, ControlError> {
    Ok(Json(a.status().await?.volumes))
}

async fn volume<A: Appliance>(
    State(a): State<Arc<A>>,
    Path(name): Path<String>,
) -> Result<Json<VolumeStatus>, ControlError> {
    let all = a.status().await?.volumes;
    let names: Vec<String> = all.iter().map(|v| v.name.clone()).collect();
    all.into_iter()
        .find(|v| v.name == name)
        .map(Json)
        .ok_or_else(|| no_volume(&name, &names))
}

async fn create<A: Appliance>(
    State(a): State<Arc<A>>,
    body: Result<Json<CreateVolume>, JsonRejection>,
) -> Result<Response, ControlError> {
    let Json(request) = body.map_err(|e| ControlError::Invalid(e.body_text()))?;
    let made = a.create_volume(request).await?;
    Ok((StatusCode::CREATED, Json(made)).into_response())
}

async fn delete<A: Appliance>(
    State(a): State<Arc<A>>,
    Path(name): Path<String>,
) -> Result<Json<Deleted>, ControlError> {
    a.delete_volume(name).await.map(Json)
}

async fn clear_reservations<A: Appliance>(
    State(a): State<Arc<A>>,
    Path(name): Path<String>,
) -> Result<Json<Cleared>, ControlError> {
    a.clear_reservations(name).await.map(Json)
}

async fn connect<A: Appliance>(
    State(a): State<Arc<A>>,
    Path(name): Path<String>,
) -> Result<Json<ConnectInfo>, ControlError> {
    a.connect_info(name).await.map(Json)
}

async fn prometheus<A: Appliance>(State(a): State<Arc<A>>) -> Result<Response, ControlError> {
    let text = metrics::render(&a.status().await?);
    let kind = (
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    );
    Ok(([kind], text).into_response())
}

async fn unknown() -> ControlError {
    ControlError::NotFound("no such path; see the table in docs/control.md".into())
}

/// The answer for a volume name that does not exist; names the ones that do.
pub fn no_volume(name: &str, known: &[String]) -> ControlError {
    let known = if known.is_empty() {
        "none".to_string()
    } else {
        known.join(", ")
    };
    ControlError::NotFound(format!("there is no volume '{name}' (volumes: {known})"))
}
