//! The management API over a real Unix socket, against an appliance kept in memory.

use std::sync::{Arc, Mutex};

use control::client::{Client, ClientError};
use control::model::{
    Cleared, ConnectInfo, CreateVolume, Deleted, PoolStatus, Status, VolumeStatus,
};
use control::server::{SocketError, bind};
use control::{Appliance, ControlError, api};

#[derive(Default)]
struct InMemory {
    volumes: Mutex<Vec<VolumeStatus>>,
}

impl Appliance for InMemory {
    async fn status(&self) -> Result<Status, ControlError> {
        Ok(Status {
            version: "0".into(),
            pid: 1,
            uptime_seconds: 0,
            cores: vec![],
            pools: Vec::<PoolStatus>::new(),
            volumes: self.volumes.lock().unwrap().clone(),
            listeners: vec![],
            connections: 0,
        })
    }

    async fn create_volume(&self, request: CreateVolume) -> Result<VolumeStatus, ControlError> {
        let mut volumes = self.volumes.lock().unwrap();
        if volumes.iter().any(|v| v.name == request.name) {
            return Err(ControlError::Conflict(format!("'{}' exists", request.name)));
        }
        let made = VolumeStatus {
            nqn: format!("nqn.test:{}", request.name),
            iqn: None,
            iscsi_sessions: 0,
            name: request.name,
            pool: request.pool.unwrap_or_default(),
            size_bytes: request.size_bytes,
            block_bytes: request.block_bytes.unwrap_or(4096),
            mapped_bytes: 0,
            uuid: String::new(),
            volatile: false,
            core: 0,
            connections: Vec::new(),
            state: "live".into(),
            counters: None,
        };
        volumes.push(made.clone());
        Ok(made)
    }

    async fn delete_volume(&self, name: String) -> Result<Deleted, ControlError> {
        let mut volumes = self.volumes.lock().unwrap();
        let at = volumes.iter().position(|v| v.name == name);
        let at = at.ok_or_else(|| api::no_volume(&name, &[]))?;
        volumes.remove(at);
        Ok(Deleted {
            name,
            warning: None,
        })
    }

    async fn clear_reservations(&self, name: String) -> Result<Cleared, ControlError> {
        Ok(Cleared {
            name,
            registrants: 2,
            was_locked: true,
        })
    }

    async fn connect_info(&self, name: String) -> Result<ConnectInfo, ControlError> {
        Ok(ConnectInfo {
            nqn: format!("nqn.test:{name}"),
            iqn: None,
            name,
            commands: vec!["x".into()],
        })
    }
}

fn run(test: impl AsyncFnOnce(Client)) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/control.sock");
        let listener = bind(&path, 0o600).unwrap();
        let app = api::router(Arc::new(InMemory::default()));
        let server = tokio::spawn(async move { axum::serve(listener, app).await });
        test(Client::new(path)).await;
        server.abort();
    });
}

fn demo() -> CreateVolume {
    CreateVolume {
        name: "demo".into(),
        pool: None,
        size_bytes: 1 << 30,
        block_bytes: None,
    }
}

#[test]
fn a_volume_is_created_listed_and_deleted() {
    run(async |client| {
        let made: VolumeStatus = client.post("/v1/volumes", &demo()).await.unwrap();
        assert_eq!(made.block_bytes, 4096);
        let listed: Vec<VolumeStatus> = client.get("/v1/volumes").await.unwrap();
        assert_eq!(listed, vec![made]);
        let info: ConnectInfo = client.get("/v1/volumes/demo/connect").await.unwrap();
        assert_eq!(info.nqn, "nqn.test:demo");
        let gone: Deleted = client.delete("/v1/volumes/demo").await.unwrap();
        assert_eq!(gone.name, "demo");
        assert!(
            client
                .get::<Vec<VolumeStatus>>("/v1/volumes")
                .await
                .unwrap()
                .is_empty()
        );
    });
}

#[test]
fn refusals_reach_the_caller_in_the_servers_words() {
    run(async |client| {
        let _: VolumeStatus = client.post("/v1/volumes", &demo()).await.unwrap();
        let twice = client
            .post::<_, VolumeStatus>("/v1/volumes", &demo())
            .await
            .unwrap_err();
        assert!(
            matches!(twice, ClientError::Refused { status: 409, .. }),
            "{twice}"
        );
        assert_eq!(twice.to_string(), "'demo' exists");
        let missing = client
            .get::<VolumeStatus>("/v1/volumes/nope")
            .await
            .unwrap_err();
        assert!(missing.to_string().contains("volumes: demo"), "{missing}");
        let path = client.get::<Status>("/v2").await.unwrap_err();
        assert!(
            matches!(path, ClientError::Refused { status: 404, .. }),
            "{path}"
        );
        let body = serde_json::json!({ "name": "x", "size_bytes": 1, "colour": "red" });
        let unknown = client
            .post::<_, VolumeStatus>("/v1/volumes", &body)
            .await
            .unwrap_err();
        assert!(unknown.to_string().contains("colour"), "{unknown}");
    });
}

#[test]
fn no_server_is_said_with_the_socket_and_the_remedy() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let error = runtime
        .block_on(Client::new("/nonexistent/b.sock").get::<Status>("/v1/status"))
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("/nonexistent/b.sock") && text.contains("bedplate serve"),
        "{text}"
    );
}

#[test]
fn a_dead_socket_is_replaced_and_a_live_one_or_a_file_is_not() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let first = bind(&path, 0o600).unwrap();
        assert!(matches!(bind(&path, 0o600), Err(SocketError::InUse { .. })));
        drop(first);
        let second = bind(&path, 0o600).unwrap();
        drop(second);
        let file = folder.path().join("file");
        std::fs::write(&file, "mine").unwrap();
        assert!(matches!(
            bind(&file, 0o600),
            Err(SocketError::NotASocket { .. })
        ));
        assert_eq!(std::fs::read(&file).unwrap(), b"mine");
    });
}
