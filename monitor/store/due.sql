-- Additional tables on PostgreSQL, for the daemons that share it.

-- When each connection is due.
CREATE TABLE due (
  connection_id INTEGER NOT NULL PRIMARY KEY,
  due_at TIMESTAMP WITH TIME ZONE NOT NULL,
  configuration TEXT NOT NULL,  -- replicas with this one check it
  version TEXT NOT NULL,        -- hash of what is sent
  epoch BIGINT NOT NULL,        -- incremented by each result
  job BIGINT,                   -- holds the row
  writer TEXT,                  -- wrote the last result
  changed_at TIMESTAMP WITH TIME ZONE NOT NULL
);
CREATE INDEX due_by_time ON due (due_at);
CREATE INDEX due_by_job ON due (job) WHERE job IS NOT NULL;
CREATE INDEX due_by_change ON due (changed_at);

-- Recent logins of each username, by minute since 1970.
CREATE TABLE IF NOT EXISTS login_budgets (
  budget TEXT NOT NULL, username TEXT NOT NULL, minute INTEGER NOT NULL, count INTEGER NOT NULL,
  PRIMARY KEY (budget, username, minute)
);

-- The engine's migrations that have run.
CREATE TABLE engine_migrations (name TEXT NOT NULL PRIMARY KEY);

-- The configuration of each of the engine's workers.
DROP TABLE IF EXISTS replicas;
CREATE TABLE replicas (worker BIGINT NOT NULL PRIMARY KEY, configuration TEXT NOT NULL);
