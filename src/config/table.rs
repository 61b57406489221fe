//! The table of options. An entry is all there is to say of one: its field in [`Options`](super::Options) with what holds
//! before anything was said, its word, what the help, the sample configuration and the manual say, and how a value is
//! stored. Nothing else in the source names an option but those who use its value.

/// Hands the table to a macro: `config/options.rs` makes the options and their fields of it, `cli.rs` what argh needs.
macro_rules! option_table {
    ($make:ident) => {
        $make! {
            /// How the agent runs.
            pub mode: Mode = Mode::Standalone, {
                word: "mode",
                value: "MODE",
                help: "how it runs: standalone, xinetd (on the socket it is given) or check (once, for scripts); drain \
                       and undrain switch the drain file; cluster shows this node and its peers; doctor looks for \
                       what is wrong",
                default: DefaultValue::Value("standalone"),
                sample: (Group::Running, "", &["standalone"]),
                store: |field, setting| setting.store(field, units::mode),
            }
            /// HTTP addresses to listen on; empty: the default, `[::]:23267` or `0.0.0.0:23267` where IPv6 is off.
            pub listen: Vec<SocketAddr> = Vec::new(), {
                word: "listen",
                value: "ADDR:PORT",
                help: "HTTP address to listen on, numeric; repeatable",
                default: DefaultValue::Described("[::]:23267, or 0.0.0.0:23267 where IPv6 is off"),
                sample: (
                    Group::Clients,
                    "It does not count where systemd or xinetd opens the port.",
                    &["[::]:23267"]
                ),
                store: |field, setting| setting.add(field, units::listen_unless_taken),
            }
            /// Where HAProxy's agent-check is answered; default nowhere.
            pub agent_listen: Option<SocketAddr> = None, {
                word: "agent-listen",
                value: "ADDR:PORT",
                help: "address for HAProxy's agent-check, numeric",
                default: DefaultValue::Described("none"),
                sample: (
                    Group::Clients,
                    "It does not count either where systemd or xinetd opens the port.",
                    &["[::]:23268"]
                ),
                store: |field, setting| setting.store(field, |value| units::listen(value).map(Some)),
            }
            /// Addresses to speak HTTPS at; default none.
            pub tls_listen: Vec<SocketAddr> = Vec::new(), {
                word: "tls-listen",
                value: "ADDR:PORT",
                help: "address to speak HTTPS at, numeric, beside --listen (pgsqlchk-tls); repeatable",
                default: DefaultValue::Described("none"),
                sample: (
                    Group::Clients,
                    "It takes tls-cert and tls-key.",
                    &["[::]:23269"]
                ),
                store: |field, setting| setting.add(field, units::tls_listen_unless_taken),
            }
            /// Our certificate, with those between it and its authority.
            pub tls_cert: Option<PathBuf> = None, {
                word: "tls-cert",
                value: "PATH",
                help: "PEM file with the certificate that HTTPS clients and peers are shown, and those between it and its \
                       authority (pgsqlchk-tls)",
                default: DefaultValue::Described("none"),
                sample: (Group::Clients, "Read again on reload.", &["/etc/pgsqlchk/tls.crt"]),
                store: |field, setting| setting.store(field, units::tls_file),
            }
            /// The key of [`tls_cert`](Self::tls_cert).
            pub tls_key: Option<PathBuf> = None, {
                word: "tls-key",
                value: "PATH",
                help: "PEM file with the key of --tls-cert, which others may not read (pgsqlchk-tls)",
                default: DefaultValue::Described("none"),
                sample: (Group::Clients, "", &["/etc/pgsqlchk/tls.key"]),
                store: |field, setting| setting.store(field, units::tls_file),
            }
            /// Whose certificates HTTPS clients have to show; default none.
            pub tls_client_ca: Option<PathBuf> = None, {
                word: "tls-client-ca",
                value: "PATH",
                help: "PEM file with authorities: HTTPS clients have to show a certificate of one of them (pgsqlchk-tls)",
                default: DefaultValue::Described("none has to"),
                sample: (Group::Clients, "", &["/etc/pgsqlchk/clients.crt"]),
                store: |field, setting| setting.store(field, units::tls_file),
            }
            /// What was said of how PostgreSQL is reached; [`Config::connection`](super::Config::connection) is what it comes to.
            dsn: Option<Given> = None, {
                word: "dsn",
                value: "CONNINFO",
                help: "how to reach PostgreSQL: libpq keyword/value string or URI",
                default: DefaultValue::Described("libpq's PG* variables, then the local socket"),
                sample: (
                    Group::PostgreSql,
                    "A password belongs into ~pgsqlchk/.pgpass.",
                    &["host=/run/postgresql port=5432"]
                ),
                // Its errors never show the value: it may hold a password.
                store: |field, setting| {
                    *field = Some(Given::parse(&setting.value, setting.to_string())?);
                    Ok(())
                },
            }
            /// Deadline of one check, connecting included; 10 ms to 60 s, default 2 s.
            pub timeout: Duration = Duration::ZERO, {
                word: "timeout",
                value: "DURATION",
                help: "deadline of one check, connecting included, 10ms to 60s",
                default: DefaultValue::Value("2s"),
                sample: (Group::PostgreSql, "HAProxy's \"timeout check\" has to be longer.", &["2s"]),
                store: |field, setting| setting.store(field, |value| units::duration(value, units::TIMEOUT, false)),
            }
            /// How long one knock at the postmaster is good for; zero: it never knocks. 10 ms to 1 h, default 1 s.
            pub knock_interval: Duration = Duration::ZERO, {
                word: "knock-interval",
                value: "DURATION",
                help: "how long one knock at the postmaster is good for, 10ms to 1h; 0 turns it off",
                default: DefaultValue::Value("1s"),
                sample: (Group::PostgreSql, "", &["1s"]),
                store: |field, setting| {
                    setting.store(field, |value| units::duration(value, units::KNOCK_INTERVAL, true))
                },
            }
            /// How old the session may get before a fresh login replaces it; zero: as old as it pleases. 500 ms to 1 h,
            /// default 2 s.
            pub login_interval: Duration = Duration::ZERO, {
                word: "login-interval",
                value: "DURATION",
                help: "how old the session may get before a fresh login replaces it, 500ms to 1h; 0 turns it off",
                default: DefaultValue::Value("2s"),
                sample: (Group::PostgreSql, "", &["2s"]),
                store: |field, setting| {
                    setting.store(field, |value| units::duration(value, units::LOGIN_INTERVAL, true))
                },
            }
            /// Threads of the fixed pool that answers; 1 to 64, default 4.
            pub workers: usize = 0, {
                word: "workers",
                value: "N",
                help: "threads that answer, 1 to 64",
                default: DefaultValue::Value("4"),
                sample: (Group::Clients, "", &["4"]),
                store: |field, setting| setting.store(field, |value| units::number(value, units::WORKERS)),
            }
            /// Clients served at once; 1 to 10000, default 128.
            pub max_connections: usize = 0, {
                word: "max-connections",
                value: "N",
                help: "clients served at once, 1 to 10000",
                default: DefaultValue::Value("128"),
                sample: (Group::Clients, "", &["128"]),
                store: |field, setting| setting.store(field, |value| units::number(value, units::MAX_CONNECTIONS)),
            }
            /// Who may ask; default everyone.
            pub allow: Allow = Allow::default(), {
                word: "allow",
                value: "CIDR",
                help: "address or block of addresses that may ask; repeatable",
                default: DefaultValue::Described("everyone"),
                sample: (
                    Group::Clients,
                    "With service and socket of systemd name 127.0.0.1 and ::1, too, for the watchdog.",
                    &["0.0.0.0/0", "::/0"]
                ),
                store: |field, setting| setting.add(field, Allow::add),
            }
            /// How far a standby may lag, in bytes of WAL; default any distance.
            pub max_lag: Option<u64> = None, {
                word: "max-lag",
                value: "SIZE",
                help: "how far a standby may lag in bytes of WAL (16MB) and still hold",
                default: DefaultValue::Described("no limit"),
                sample: (Group::Standbys, "Units: B, kB, MB, GB, TB.", &["16MB"]),
                store: |field, setting| setting.store(field, |value| spelling::size(value).map(Some)),
            }
            /// How far a standby may lag in time; default any.
            pub max_lag_time: Option<Duration> = None, {
                word: "max-lag-time",
                value: "DURATION",
                help: "how far a standby may lag in time and still hold",
                default: DefaultValue::Described("no limit"),
                sample: (Group::Standbys, "", &["10s"]),
                store: |field, setting| setting.store(field, |value| spelling::duration(value).map(Some)),
            }
            /// What `/` stands for; default the classic contract.
            pub root_path: Path = Path::Contract, {
                word: "root-path",
                value: "PATH",
                help: "what / stands for: /primary is what Patroni means by it",
                default: DefaultValue::Value("/"),
                sample: (
                    Group::Clients,
                    "With / a standby is 206 there, which HAProxy takes for success.",
                    &["/"]
                ),
                store: |field, setting| setting.store(field, units::root_path),
            }
            /// What this node is called by those who ask for some standbys only; default nothing.
            pub tag: Vec<Tag> = Vec::new(), {
                word: "tag",
                value: "NAME=VALUE",
                help: "what tag_NAME=VALUE in a request for standbys is compared with; noloadbalance=true keeps reads away; \
                       repeatable",
                default: DefaultValue::Described("none"),
                sample: (Group::Standbys, "", &["datacenter=north", "noloadbalance=true"]),
                store: |field, setting| setting.add(field, units::tag_unless_taken),
            }
            /// Agents of the other nodes; default none.
            pub peer: Vec<PeerAddress> = Vec::new(), {
                word: "peer",
                value: "URL",
                help: "agent of another node of this cluster, HOST:PORT, http://HOST:PORT or (pgsqlchk-tls) https://HOST:PORT, at most \
                       16; repeatable",
                default: DefaultValue::Described("none"),
                sample: (
                    Group::Peers,
                    "This node's own agent may stand among them: one file serves all nodes.",
                    &["node1:23267", "node2:23267", "node3:23267"]
                ),
                store: |field, setting| match setting.value.contains('@') {
                    // Not shown: it may hold a password.
                    true => Err(format!("{setting}: a peer has neither user nor password: give HOST:PORT alone")),
                    false => setting.add(field, peer::add),
                },
            }
            /// Whose certificates https peers have to show; default those that the system trusts.
            pub peer_ca: Option<PathBuf> = None, {
                word: "peer-ca",
                value: "PATH",
                help: "PEM file with the authorities of https peers (pgsqlchk-tls)",
                default: DefaultValue::Described("those that this system trusts"),
                sample: (Group::Peers, "", &["/etc/pgsqlchk/peers.crt"]),
                store: |field, setting| setting.store(field, units::tls_file),
            }
            /// How long a peer's answer is good for; 10 ms to 1 h, default 1 s.
            pub peer_interval: Duration = Duration::ZERO, {
                word: "peer-interval",
                value: "DURATION",
                help: "how long a peer's answer is good for, 10ms to 1h",
                default: DefaultValue::Value("1s"),
                sample: (Group::Peers, "", &["1s"]),
                store: |field, setting| {
                    setting.store(field, |value| units::duration(value, units::PEER_INTERVAL, false))
                },
            }
            /// A primary that hears from fewer peers cannot be verified; 0 to 16, default 0.
            pub min_peers: usize = 0, {
                word: "min-peers",
                value: "N",
                help: "a primary whose agent hears from fewer peers than this cannot be verified, 0 to 16",
                default: DefaultValue::Value("0"),
                sample: (Group::Peers, "", &["0"]),
                store: |field, setting| setting.store(field, |value| units::number(value, units::MIN_PEERS)),
            }
            /// How often at most a primary is made to commit; 1 s to 1 h, default never.
            pub write_probe: Option<Duration> = None, {
                word: "write-probe",
                value: "DURATION",
                help: "a primary whose last commit for this purpose is older has to commit again, 1s to 1h, or off",
                default: DefaultValue::Value("off"),
                sample: (
                    Group::Work,
                    "10s will do. A commit that hangs or fails is 503 write-stalled or write-failed on /, /primary and /read-write.",
                    &["off"]
                ),
                store: |field, setting| setting.store(field, units::write_probe),
            }
            /// What clients of this node go through; default nothing.
            pub pooler: Vec<PoolerAddress> = Vec::new(), {
                word: "pooler",
                value: "ADDR",
                help: "pooler that clients of this node go through, HOST:PORT or the path of a socket, at most 8; repeatable",
                default: DefaultValue::Described("none"),
                sample: (
                    Group::Work,
                    "Where one does not answer, each path about the role is 503 pooler-not-answering.",
                    &["127.0.0.1:6432", "/run/postgresql/.s.PGSQL.6432"]
                ),
                store: |field, setting| setting.add(field, pooler::add),
            }
            /// What xinetd mode speaks on its socket; default HTTP.
            pub protocol: Protocol = Protocol::Http, {
                word: "protocol",
                value: "NAME",
                help: "what --mode xinetd speaks: http or agent (HAProxy's agent-check)",
                default: DefaultValue::Value("http"),
                sample: (Group::Running, "", &["http"]),
                store: |field, setting| setting.store(field, units::protocol),
            }
            /// Xinetd mode on a listening socket: how long without a request before it exits; 1 s to 1 d, default 60 s.
            pub idle_exit: Duration = Duration::ZERO, {
                word: "idle-exit",
                value: "DURATION",
                help: "xinetd mode on a listening socket (wait = yes): exit after this long without a request, 1s to 1d",
                default: DefaultValue::Value("60s"),
                sample: (Group::Running, "", &["60s"]),
                store: |field, setting| setting.store(field, |value| units::duration(value, units::IDLE_EXIT, false)),
            }
            /// While this file exists, the node drains; default `/run/pgsqlchk/drain`.
            pub drain_file: PathBuf = PathBuf::new(), {
                word: "drain-file",
                value: "PATH",
                help: "while this file exists, the node drains",
                default: DefaultValue::Value("/run/pgsqlchk/drain"),
                sample: (
                    Group::Standbys,
                    "pgsqlchk drain makes it, pgsqlchk undrain takes it away.",
                    &["/run/pgsqlchk/drain"]
                ),
                store: |field, setting| setting.store(field, units::absolute_path),
            }
            /// The least severe messages that are logged; default info.
            pub log_level: LevelFilter = LevelFilter::Info, {
                word: "log-level",
                value: "LEVEL",
                help: "least severe lines of the log: error, warn, info or debug",
                default: DefaultValue::Value("info"),
                sample: (Group::Log, "", &["info"]),
                store: |field, setting| setting.store(field, units::log_level),
            }
            /// Where the log was told to go; [`Config::log_target`](super::Config::log_target) knows where it goes.
            log_target: Option<LogTarget> = None, {
                word: "log-target",
                value: "TARGET",
                help: "where the log goes: stderr, syslog or none",
                default: DefaultValue::Described("stderr; syslog in xinetd mode"),
                sample: (Group::Log, "Under systemd stderr is the journal.", &["stderr"]),
                store: |field, setting| setting.store(field, |value| units::log_target(value).map(Some)),
            }
            /// What check mode asks, readable under [`Options::standing`]; default `/`.
            pub target: String = String::new(), {
                word: "target",
                value: "PATH",
                help: "what pgsqlchk check asks, as an HTTP path",
                default: DefaultValue::Value("/"),
                sample: (Group::Running, "", &["/"]),
                store: |field, setting| {
                    setting.store(field, |value| {
                        units::target(value, &Standing::default()).map(|_| value.to_owned())
                    })
                },
            }
            /// In which words check mode answers; default text.
            pub format: Format = Format::Text, {
                word: "format",
                value: "NAME",
                help: "in which words pgsqlchk check answers: text or nagios (the guidelines of monitoring plugins)",
                default: DefaultValue::Value("text"),
                sample: (Group::Running, "", &["text"]),
                store: |field, setting| setting.store(field, units::format),
            }
            /// From which lag on a plugin warns; default none.
            pub warning: Limits = Limits { bytes: None, time: None }, {
                word: "warning",
                value: "LAG",
                help: "with --format nagios: more lag than this (16MB, 10s, or 16MB,10s) is a warning",
                default: DefaultValue::Described("none"),
                sample: (Group::Running, "", &["16MB,10s"]),
                store: |field, setting| setting.store(field, units::limits),
            }
            /// From which lag on that is critical; default none.
            pub critical: Limits = Limits { bytes: None, time: None }, {
                word: "critical",
                value: "LAG",
                help: "with --format nagios: more lag than this, likewise, is critical",
                default: DefaultValue::Described("none"),
                sample: (Group::Running, "", &["256MB,1min"]),
                store: |field, setting| setting.store(field, units::limits),
            }
        }
    };
}
pub(crate) use option_table;
