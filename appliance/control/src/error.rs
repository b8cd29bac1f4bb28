//! Why the management plane could not do what it was asked.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::model::Problem;

/// A request that was refused or failed. The message says what happened, to what, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// No such volume or pool.
    #[error("{0}")]
    NotFound(String),
    /// The name is taken, or the object is in a state that forbids the request.
    #[error("{0}")]
    Conflict(String),
    /// The request itself makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The pool has no room.
    #[error("{0}")]
    NoSpace(String),
    /// A data core did not answer or a device failed.
    #[error("{0}")]
    Unavailable(String),
}

impl ControlError {
    /// The HTTP status that says the same.
    pub fn status(&self) -> StatusCode {
        match self {
            ControlError::NotFound(_) => StatusCode::NOT_FOUND,
            ControlError::Conflict(_) => StatusCode::CONFLICT,
            ControlError::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            ControlError::NoSpace(_) => StatusCode::INSUFFICIENT_STORAGE,
            ControlError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl IntoResponse for ControlError {
    fn into_response(self) -> Response {
        (
            self.status(),
            Json(Problem {
                error: self.to_string(),
            }),
        )
            .into_response()
    }
}
