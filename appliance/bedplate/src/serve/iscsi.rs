//! The iSCSI target of a data core, made as the configuration says.

use std::sync::Arc;

use config::IscsiConfig;
use control::model::IscsiCounters;
use frontends::iscsi::login::{ChapSecrets, ChapUser};
use frontends::iscsi::{self, Auth, Directory, Options, Target};

/// TSIH has 16 bits, and 0 names none.
const MAX_SESSIONS: usize = 65_535;

/// What the iSCSI targets of all cores share.
#[derive(Clone)]
pub struct Shared {
    directory: Directory,
    auth: Auth,
    config: IscsiConfig,
}

impl Shared {
    /// Errors: the secrets cannot be used; nothing has been opened then.
    pub fn new(config: &IscsiConfig) -> anyhow::Result<Self> {
        let auth = match &config.secrets {
            None => Auth::None,
            Some(path) => Auth::Chap(Arc::new(secrets(config::ChapSecrets::load(path)?))),
        };
        Ok(Self {
            directory: Directory::new(),
            auth,
            config: config.clone(),
        })
    }

    /// The target of the calling core.
    pub fn target(&self) -> anyhow::Result<Target> {
        let connections = self.config.max_connections as usize;
        let options = Options {
            max_connections: connections,
            max_sessions: connections.min(MAX_SESSIONS),
            queue_depth: self.config.queue_depth,
            auth: self.auth.clone(),
            directory: self.directory.clone(),
            ..Options::default()
        };
        Ok(Target::new(options)?)
    }
}

fn secrets(read: config::ChapSecrets) -> ChapSecrets {
    let user = |user: config::ChapUser| ChapUser {
        initiator: user.name,
        user: user.user,
        secret: user.secret.into_bytes(),
    };
    ChapSecrets {
        initiators: read.initiators.into_iter().map(user).collect(),
        target: read.target.map(user),
    }
}

/// The counters of a core's target.
pub fn counters(metrics: &iscsi::MetricsSnapshot) -> IscsiCounters {
    let connections = metrics.sessions.iter().map(|s| s.connections.len() as u64);
    let closed = metrics.closed.iter();
    IscsiCounters {
        sessions: metrics.sessions.len() as u64,
        connections: connections.sum(),
        logins: metrics.logins,
        commands: metrics.total.commands,
        failed: metrics.total.failed,
        payload_bytes: metrics.total.payload_bytes,
        protocol_errors: metrics.total.protocol_errors,
        digest_errors: metrics.total.digest_errors,
        closed: closed
            .map(|(&reason, &count)| (reason.into(), count))
            .collect(),
    }
}
