-- A database as version 1 of the schema made it. It never changes: it must open in every later version.
BEGIN TRANSACTION;
CREATE TABLE causes (
	id INTEGER NOT NULL, 
	code TEXT NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (code)
);
INSERT INTO "causes" VALUES(1,'user_not_admin_approved');
INSERT INTO "causes" VALUES(2,'consumer_not_approved');
INSERT INTO "causes" VALUES(3,'approval_decayed');
INSERT INTO "causes" VALUES(4,'approval_expiring');
INSERT INTO "causes" VALUES(5,'audience_invalid');
INSERT INTO "causes" VALUES(6,'assertion_invalid');
INSERT INTO "causes" VALUES(7,'key_certificate_mismatch');
INSERT INTO "causes" VALUES(8,'not_authorized');
INSERT INTO "causes" VALUES(9,'ip_restricted');
INSERT INTO "causes" VALUES(10,'api_disabled');
INSERT INTO "causes" VALUES(11,'propagation_pending');
INSERT INTO "causes" VALUES(12,'username_changed');
INSERT INTO "causes" VALUES(13,'key_unreadable');
INSERT INTO "causes" VALUES(14,'key_not_rsa');
INSERT INTO "causes" VALUES(15,'key_too_short');
INSERT INTO "causes" VALUES(16,'certificate_expiring');
INSERT INTO "causes" VALUES(17,'certificate_expired');
INSERT INTO "causes" VALUES(18,'certificate_not_yet_valid');
INSERT INTO "causes" VALUES(19,'jwt_access_token');
INSERT INTO "causes" VALUES(20,'scope_missing');
INSERT INTO "causes" VALUES(21,'flow_disabled');
INSERT INTO "causes" VALUES(22,'consumer_key_unknown');
INSERT INTO "causes" VALUES(23,'subdomain_unknown');
INSERT INTO "causes" VALUES(24,'permission_set_expiring');
INSERT INTO "causes" VALUES(25,'app_not_found');
INSERT INTO "causes" VALUES(26,'client_invalid');
INSERT INTO "causes" VALUES(27,'app_blocked');
INSERT INTO "causes" VALUES(28,'user_inactive');
INSERT INTO "causes" VALUES(29,'org_inactive');
INSERT INTO "causes" VALUES(30,'identity_changed');
INSERT INTO "causes" VALUES(31,'login_rate_exceeded');
INSERT INTO "causes" VALUES(32,'clock_skewed');
INSERT INTO "causes" VALUES(33,'request_malformed');
INSERT INTO "causes" VALUES(34,'salesforce_unavailable');
INSERT INTO "causes" VALUES(35,'network_unreachable');
INSERT INTO "causes" VALUES(36,'tls_untrusted');
INSERT INTO "causes" VALUES(37,'monitor_fault');
INSERT INTO "causes" VALUES(38,'unrecognised');
CREATE TABLE connections (
	id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (name)
);
INSERT INTO "connections" VALUES(1,'acme');
INSERT INTO "connections" VALUES(2,'other');
CREATE TABLE days (
	day INTEGER NOT NULL, 
	connection_id INTEGER NOT NULL, 
	granted INTEGER NOT NULL, 
	refused INTEGER NOT NULL, 
	no_verdict INTEGER NOT NULL, 
	PRIMARY KEY (day, connection_id), 
	FOREIGN KEY(connection_id) REFERENCES connections (id)
)
 WITHOUT ROWID

;
INSERT INTO "days" VALUES(20780,1,1,1,1);
INSERT INTO "days" VALUES(20780,2,0,0,1);
CREATE TABLE events (
	id INTEGER NOT NULL, 
	connection_id INTEGER NOT NULL, 
	at_ms BIGINT NOT NULL, 
	kind TEXT NOT NULL, 
	cause_id INTEGER, 
	failure BOOLEAN NOT NULL, 
	text TEXT NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(connection_id) REFERENCES connections (id), 
	FOREIGN KEY(cause_id) REFERENCES causes (id)
);
INSERT INTO "events" VALUES(1,1,1795435200000,'state',NULL,0,'event 1');
INSERT INTO "events" VALUES(2,1,1795435200000,'state',3,1,'event 2');
CREATE TABLE exchanges (
	connection_id INTEGER NOT NULL, 
	slot SMALLINT NOT NULL, 
	at_ms BIGINT NOT NULL, 
	verdict SMALLINT NOT NULL, 
	cause_id INTEGER, 
	status SMALLINT, 
	duration_ms INTEGER, 
	PRIMARY KEY (connection_id, slot), 
	FOREIGN KEY(connection_id) REFERENCES connections (id), 
	FOREIGN KEY(cause_id) REFERENCES causes (id)
)
 WITHOUT ROWID

;
INSERT INTO "exchanges" VALUES(1,1,1795435200000,0,NULL,200,123);
INSERT INTO "exchanges" VALUES(1,2,1795435260000,1,3,400,123);
INSERT INTO "exchanges" VALUES(1,3,1795435320000,2,3,503,123);
INSERT INTO "exchanges" VALUES(2,1,1795435200000,2,35,NULL,123);
CREATE TABLE histories (
	connection_id INTEGER NOT NULL, 
	body TEXT NOT NULL, 
	PRIMARY KEY (connection_id), 
	FOREIGN KEY(connection_id) REFERENCES connections (id)
);
INSERT INTO "histories" VALUES(1,'{"first_seen":"2026-11-23T12:00:00Z","changed_at":"2026-11-23T12:00:00Z","changed":"first_seen","configuration":"","key_fingerprint":"","exchanges":3,"failures":2,"failures_by_cause":{"approval_decayed":2},"last_exchange":{"at":"2026-11-23T12:02:00Z","outcome":{"status":503,"error":"","description":"","excerpt":"<html>","retry_after_seconds":null},"after_login":null,"duration_seconds":0.1234,"clock_offset_seconds":-0.5},"last_verdict":{"at":"2026-11-23T12:01:00Z","outcome":{"status":400,"error":"invalid_grant","description":"user hasn''t approved this consumer","excerpt":"","retry_after_seconds":null},"after_login":null,"duration_seconds":0.1234,"clock_offset_seconds":-0.5},"first_success":null,"last_success":null,"consecutive_successes":0,"consecutive_refusals":0,"consecutive_faults":0,"failing_since":"2026-11-23T12:01:00Z","identity":{"org_id":null,"user_id":null},"approval_since":null,"approvals":[],"keys_accepted":{"current":false},"state":"failing","state_since":null,"findings":[{"cause":"approval_decayed","severity":"critical","responsible":"org_admin","certainty":"likely","evidence":["It said so."],"since":"2026-11-23T12:00:00Z"}],"alternatives":[]}');
INSERT INTO "histories" VALUES(2,'{"first_seen":"2026-11-23T12:00:00Z","changed_at":"2026-11-23T12:00:00Z","changed":"first_seen","configuration":"","key_fingerprint":"","exchanges":1,"failures":0,"failures_by_cause":{},"last_exchange":{"at":"2026-11-23T12:00:00Z","outcome":{"kind":"dns","message":"no such name"},"after_login":null,"duration_seconds":0.1234,"clock_offset_seconds":-0.5},"last_verdict":null,"first_success":null,"last_success":null,"consecutive_successes":0,"consecutive_refusals":0,"consecutive_faults":0,"failing_since":null,"identity":{"org_id":null,"user_id":null},"approval_since":null,"approvals":[],"keys_accepted":{},"state":"unknown","state_since":null,"findings":[{"cause":"network_unreachable","severity":"critical","responsible":"org_admin","certainty":"likely","evidence":["It said so."],"since":"2026-11-23T12:00:00Z"}],"alternatives":[]}');
CREATE TABLE meta (
	"key" TEXT NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY ("key")
);
INSERT INTO "meta" VALUES('schema','1');
INSERT INTO "meta" VALUES('mark','930c6e178d4dd605');
CREATE TABLE unreadable (
	id INTEGER NOT NULL, 
	connection_id INTEGER NOT NULL, 
	reason TEXT NOT NULL, 
	body TEXT NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(connection_id) REFERENCES connections (id)
);
CREATE INDEX events_by_age ON events (failure, at_ms);
CREATE INDEX events_of_connection ON events (connection_id, failure, id);
COMMIT;
