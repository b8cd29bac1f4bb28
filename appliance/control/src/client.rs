//! The client half of the management API, for the command line and for tests.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::model::Problem;

/// Longest time a request may take; deleting a large volume frees its space step by step.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);

/// Why a request to the running server failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens on the socket.
    #[error(
        "no server answers on {socket} ({source}): start it with `bedplate serve`, or name its \
         socket with --socket"
    )]
    NoServer {
        /// The path of the socket.
        socket: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The server refused; its own words.
    #[error("{message}")]
    Refused {
        /// HTTP status of the answer.
        status: u16,
        /// What the server said.
        message: String,
    },
    /// The connection broke or what came is not an answer.
    #[error("the server on {socket} gave no usable answer: {reason}; look at its log")]
    Broken {
        /// The path of the socket.
        socket: PathBuf,
        /// What went wrong.
        reason: String,
    },
}

/// A client of one server.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client of the server whose management socket is `socket`; connects at each request.
    pub fn new(socket: impl Into<PathBuf>) -> Client {
        Client {
            socket: socket.into(),
        }
    }

    /// The socket it talks to.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// `GET path`.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.request(Method::GET, path, Bytes::new()).await
    }

    /// `DELETE path`.
    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.request(Method::DELETE, path, Bytes::new()).await
    }

    /// `POST path` with a JSON body.
    pub async fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|e| self.broken(e))?;
        self.request(Method::POST, path, body.into()).await
    }

    async fn request<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        let exchange = self.exchange(method, path, body);
        let (status, body) = tokio::time::timeout(REQUEST_TIMEOUT, exchange)
            .await
            .map_err(|_| self.broken(format!("no answer within {REQUEST_TIMEOUT:?}")))??;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|e| self.broken(e));
        }
        let message = serde_json::from_slice::<Problem>(&body)
            .map(|p| p.error)
            .unwrap_or_else(|_| String::from_utf8_lossy(&body).into_owned());
        Err(ClientError::Refused {
            status: status.as_u16(),
            message,
        })
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let stream =
            UnixStream::connect(&self.socket)
                .await
                .map_err(|source| ClientError::NoServer {
                    socket: self.socket.clone(),
                    source,
                })?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| self.broken(e))?;
        // The connection's own future moves the bytes; it ends with the answer.
        let driver = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "bedplate")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|e| self.broken(e))?;
        let answer = sender
            .send_request(request)
            .await
            .map_err(|e| self.broken(e))?;
        let status = answer.status();
        let body = answer
            .into_body()
            .collect()
            .await
            .map_err(|e| self.broken(e))?
            .to_bytes();
        driver.abort();
        Ok((status, body))
    }

    fn broken(&self, reason: impl ToString) -> ClientError {
        ClientError::Broken {
            socket: self.socket.clone(),
            reason: reason.to_string(),
        }
    }
}
