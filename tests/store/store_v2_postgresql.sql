-- A PostgreSQL database as version 2 of the schema made it, with two replicas' appointments. It never changes: it must open in every later version.
CREATE SEQUENCE public.appointment_changes
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
CREATE TABLE public.appointments (
    connection_id integer NOT NULL,
    due_ms bigint NOT NULL,
    wanted_ms bigint,
    configuration text NOT NULL,
    epoch bigint NOT NULL,
    holder text,
    change bigint NOT NULL,
    writer text
);
CREATE SEQUENCE public.appointments_connection_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.appointments_connection_id_seq OWNED BY public.appointments.connection_id;
CREATE TABLE public.causes (
    id integer NOT NULL,
    code text NOT NULL
);
CREATE SEQUENCE public.causes_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.causes_id_seq OWNED BY public.causes.id;
CREATE TABLE public.connections (
    id integer NOT NULL,
    name text NOT NULL
);
CREATE SEQUENCE public.connections_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.connections_id_seq OWNED BY public.connections.id;
CREATE TABLE public.days (
    day integer NOT NULL,
    connection_id integer NOT NULL,
    granted integer NOT NULL,
    refused integer NOT NULL,
    no_verdict integer NOT NULL
);
CREATE TABLE public.events (
    id integer NOT NULL,
    connection_id integer NOT NULL,
    at_ms bigint NOT NULL,
    kind text NOT NULL,
    cause_id integer,
    failure boolean NOT NULL,
    text text NOT NULL
);
CREATE SEQUENCE public.events_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.events_id_seq OWNED BY public.events.id;
CREATE TABLE public.exchanges (
    connection_id integer NOT NULL,
    slot smallint NOT NULL,
    at_ms bigint NOT NULL,
    verdict smallint NOT NULL,
    cause_id integer,
    status smallint,
    duration_ms integer
);
CREATE TABLE public.histories (
    connection_id integer NOT NULL,
    body text NOT NULL
);
CREATE TABLE public.login_budgets (
    budget text NOT NULL,
    username text NOT NULL,
    minute integer NOT NULL,
    count integer NOT NULL
);
CREATE TABLE public.meta (
    key text NOT NULL,
    value text NOT NULL
);
CREATE TABLE public.replicas (
    id text NOT NULL,
    started_ms bigint NOT NULL,
    seen_ms bigint NOT NULL,
    configuration text NOT NULL
);
CREATE TABLE public.told (
    sink text NOT NULL,
    alert text NOT NULL,
    body text NOT NULL
);
CREATE TABLE public.unreadable (
    id integer NOT NULL,
    connection_id integer NOT NULL,
    reason text NOT NULL,
    body text NOT NULL
);
CREATE SEQUENCE public.unreadable_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.unreadable_id_seq OWNED BY public.unreadable.id;
ALTER TABLE ONLY public.appointments ALTER COLUMN connection_id SET DEFAULT nextval('public.appointments_connection_id_seq'::regclass);
ALTER TABLE ONLY public.causes ALTER COLUMN id SET DEFAULT nextval('public.causes_id_seq'::regclass);
ALTER TABLE ONLY public.connections ALTER COLUMN id SET DEFAULT nextval('public.connections_id_seq'::regclass);
ALTER TABLE ONLY public.events ALTER COLUMN id SET DEFAULT nextval('public.events_id_seq'::regclass);
ALTER TABLE ONLY public.unreadable ALTER COLUMN id SET DEFAULT nextval('public.unreadable_id_seq'::regclass);
INSERT INTO public.appointments VALUES (1, 4922899200000, NULL, 'v1', 0, NULL, 1, NULL);
INSERT INTO public.appointments VALUES (3, 1767225600000, NULL, 'v1', 1, 'one', 2, NULL);
INSERT INTO public.causes VALUES (1, 'user_not_admin_approved');
INSERT INTO public.causes VALUES (2, 'consumer_not_approved');
INSERT INTO public.causes VALUES (3, 'approval_decayed');
INSERT INTO public.causes VALUES (4, 'approval_expiring');
INSERT INTO public.causes VALUES (5, 'audience_invalid');
INSERT INTO public.causes VALUES (6, 'assertion_invalid');
INSERT INTO public.causes VALUES (7, 'key_certificate_mismatch');
INSERT INTO public.causes VALUES (8, 'not_authorized');
INSERT INTO public.causes VALUES (9, 'ip_restricted');
INSERT INTO public.causes VALUES (10, 'api_disabled');
INSERT INTO public.causes VALUES (11, 'propagation_pending');
INSERT INTO public.causes VALUES (12, 'username_changed');
INSERT INTO public.causes VALUES (13, 'key_unreadable');
INSERT INTO public.causes VALUES (14, 'key_not_rsa');
INSERT INTO public.causes VALUES (15, 'key_too_short');
INSERT INTO public.causes VALUES (16, 'key_file_exposed');
INSERT INTO public.causes VALUES (17, 'certificate_expiring');
INSERT INTO public.causes VALUES (18, 'certificate_expired');
INSERT INTO public.causes VALUES (19, 'certificate_not_yet_valid');
INSERT INTO public.causes VALUES (20, 'jwt_access_token');
INSERT INTO public.causes VALUES (21, 'scope_missing');
INSERT INTO public.causes VALUES (22, 'flow_disabled');
INSERT INTO public.causes VALUES (23, 'consumer_key_unknown');
INSERT INTO public.causes VALUES (24, 'subdomain_unknown');
INSERT INTO public.causes VALUES (25, 'permission_set_expiring');
INSERT INTO public.causes VALUES (26, 'app_not_found');
INSERT INTO public.causes VALUES (27, 'client_invalid');
INSERT INTO public.causes VALUES (28, 'app_blocked');
INSERT INTO public.causes VALUES (29, 'user_inactive');
INSERT INTO public.causes VALUES (30, 'org_inactive');
INSERT INTO public.causes VALUES (31, 'identity_changed');
INSERT INTO public.causes VALUES (32, 'login_rate_exceeded');
INSERT INTO public.causes VALUES (33, 'clock_skewed');
INSERT INTO public.causes VALUES (34, 'request_malformed');
INSERT INTO public.causes VALUES (35, 'salesforce_unavailable');
INSERT INTO public.causes VALUES (36, 'network_unreachable');
INSERT INTO public.causes VALUES (37, 'tls_untrusted');
INSERT INTO public.causes VALUES (38, 'monitor_fault');
INSERT INTO public.causes VALUES (39, 'unrecognised');
INSERT INTO public.connections VALUES (1, 'a');
INSERT INTO public.connections VALUES (3, 'b');
INSERT INTO public.days VALUES (20780, 1, 1, 0, 0);
INSERT INTO public.events VALUES (1, 1, 1795435200000, 'state', NULL, false, 'event 0');
INSERT INTO public.exchanges VALUES (1, 1, 1795435200000, 0, NULL, 200, 123);
INSERT INTO public.histories VALUES (1, '{"version":1,"first_seen":"2026-11-23T12:00:00Z","changed_at":"2026-11-23T12:00:00Z","changed":"first_seen","configuration":"","key_fingerprint":"","exchanges":1,"failures":0,"failures_by_cause":{},"last_exchange":{"at":"2026-11-23T12:00:00Z","outcome":{"token_format":"opaque","scopes":["api","refresh_token"],"instance_url":"https://acme.my.salesforce.com","org_id":"00D000000000001","user_id":"005000000000001"},"after_login":null,"duration_seconds":0.1234,"clock_offset_seconds":-0.5,"assignments":null},"last_verdict":{"at":"2026-11-23T12:00:00Z","outcome":{"token_format":"opaque","scopes":["api","refresh_token"],"instance_url":"https://acme.my.salesforce.com","org_id":"00D000000000001","user_id":"005000000000001"},"after_login":null,"duration_seconds":0.1234,"clock_offset_seconds":-0.5,"assignments":null},"after_login":null,"assignments":null,"first_success":null,"last_success":null,"consecutive_successes":0,"consecutive_refusals":0,"consecutive_faults":0,"recent":[],"failing_since":null,"identity":{"org_id":null,"user_id":null},"approval_since":null,"approvals":[],"keys_accepted":{},"rotation":null,"state":"unknown","state_since":null,"findings":[],"alternatives":[]}');
INSERT INTO public.login_budgets VALUES ('checks', 'one@acme.com', 29931787, 1);
INSERT INTO public.meta VALUES ('schema', '2');
INSERT INTO public.meta VALUES ('mark', '5e34a3748472b73b');
INSERT INTO public.replicas VALUES ('one', 1795907259430, 1795907259430, 'one');
SELECT pg_catalog.setval('public.appointment_changes', 2, true);
SELECT pg_catalog.setval('public.appointments_connection_id_seq', 1, false);
SELECT pg_catalog.setval('public.causes_id_seq', 39, true);
SELECT pg_catalog.setval('public.connections_id_seq', 3, true);
SELECT pg_catalog.setval('public.events_id_seq', 1, true);
SELECT pg_catalog.setval('public.unreadable_id_seq', 1, false);
ALTER TABLE ONLY public.appointments
    ADD CONSTRAINT appointments_pkey PRIMARY KEY (connection_id);
ALTER TABLE ONLY public.causes
    ADD CONSTRAINT causes_code_key UNIQUE (code);
ALTER TABLE ONLY public.causes
    ADD CONSTRAINT causes_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.connections
    ADD CONSTRAINT connections_name_key UNIQUE (name);
ALTER TABLE ONLY public.connections
    ADD CONSTRAINT connections_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.days
    ADD CONSTRAINT days_pkey PRIMARY KEY (day, connection_id);
ALTER TABLE ONLY public.events
    ADD CONSTRAINT events_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.exchanges
    ADD CONSTRAINT exchanges_pkey PRIMARY KEY (connection_id, slot);
ALTER TABLE ONLY public.histories
    ADD CONSTRAINT histories_pkey PRIMARY KEY (connection_id);
ALTER TABLE ONLY public.login_budgets
    ADD CONSTRAINT login_budgets_pkey PRIMARY KEY (budget, username, minute);
ALTER TABLE ONLY public.meta
    ADD CONSTRAINT meta_pkey PRIMARY KEY (key);
ALTER TABLE ONLY public.replicas
    ADD CONSTRAINT replicas_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.told
    ADD CONSTRAINT told_pkey PRIMARY KEY (sink, alert);
ALTER TABLE ONLY public.unreadable
    ADD CONSTRAINT unreadable_pkey PRIMARY KEY (id);
CREATE INDEX appointments_by_change ON public.appointments USING btree (change);
CREATE INDEX appointments_by_due ON public.appointments USING btree (due_ms);
CREATE INDEX events_by_age ON public.events USING btree (failure, at_ms);
CREATE INDEX events_of_connection ON public.events USING btree (connection_id, failure, id);
ALTER TABLE ONLY public.days
    ADD CONSTRAINT days_connection_id_fkey FOREIGN KEY (connection_id) REFERENCES public.connections(id);
ALTER TABLE ONLY public.events
    ADD CONSTRAINT events_cause_id_fkey FOREIGN KEY (cause_id) REFERENCES public.causes(id);
ALTER TABLE ONLY public.events
    ADD CONSTRAINT events_connection_id_fkey FOREIGN KEY (connection_id) REFERENCES public.connections(id);
ALTER TABLE ONLY public.exchanges
    ADD CONSTRAINT exchanges_cause_id_fkey FOREIGN KEY (cause_id) REFERENCES public.causes(id);
ALTER TABLE ONLY public.exchanges
    ADD CONSTRAINT exchanges_connection_id_fkey FOREIGN KEY (connection_id) REFERENCES public.connections(id);
ALTER TABLE ONLY public.histories
    ADD CONSTRAINT histories_connection_id_fkey FOREIGN KEY (connection_id) REFERENCES public.connections(id);
ALTER TABLE ONLY public.unreadable
    ADD CONSTRAINT unreadable_connection_id_fkey FOREIGN KEY (connection_id) REFERENCES public.connections(id);
