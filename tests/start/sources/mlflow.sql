BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('dc11669786a5');
CREATE TABLE "datasets" (
	dataset_uuid VARCHAR(36) NOT NULL, 
	experiment_id INTEGER NOT NULL, 
	name VARCHAR(500) NOT NULL, 
	digest VARCHAR(36) NOT NULL, 
	dataset_source_type VARCHAR(36) NOT NULL, 
	dataset_source TEXT NOT NULL, 
	dataset_schema TEXT, 
	dataset_profile TEXT, 
	CONSTRAINT dataset_pk PRIMARY KEY (experiment_id, name, digest), 
	CONSTRAINT fk_datasets_experiment_id_experiments FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id) ON DELETE CASCADE
);
INSERT INTO "datasets" VALUES('58f38e13ff264e90bcf8dacb89e5b230',1,'rides','abc123','local','{"uri": "rides.csv"}',NULL,NULL);
CREATE TABLE "experiment_tags" (
	"key" VARCHAR(250) NOT NULL, 
	value TEXT, 
	experiment_id INTEGER NOT NULL, 
	CONSTRAINT experiment_tag_pk PRIMARY KEY ("key", experiment_id), 
	FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id)
);
INSERT INTO "experiment_tags" VALUES('team','rides',1);
INSERT INTO "experiment_tags" VALUES('mlflow.note.content','What a ride costs',1);
CREATE TABLE "experiments" (
	experiment_id INTEGER NOT NULL, 
	name VARCHAR(256) NOT NULL, 
	artifact_location VARCHAR(256), 
	lifecycle_stage VARCHAR(32), 
	creation_time BIGINT, 
	last_update_time BIGINT, 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	CONSTRAINT experiment_pk PRIMARY KEY (experiment_id), 
	CONSTRAINT experiments_lifecycle_stage CHECK (lifecycle_stage IN ('active', 'deleted')), 
	CONSTRAINT uq_experiments_workspace_name UNIQUE (workspace, name)
);
INSERT INTO "experiments" VALUES(0,'Default','mlflow-artifacts:/0','active',1795178260440,1795178260440,'default');
INSERT INTO "experiments" VALUES(1,'taxi fares','mlflow-artifacts:/taxi','active',1795178260442,1795178260442,'default');
INSERT INTO "experiments" VALUES(2,'gone','mlflow-artifacts:/gone','deleted',1795178260445,1795178260566,'default');
CREATE TABLE input_tags (
	input_uuid VARCHAR(36) NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	value VARCHAR(500) NOT NULL, 
	CONSTRAINT input_tags_pk PRIMARY KEY (input_uuid, name)
);
INSERT INTO "input_tags" VALUES('09a74e57a4cd43e5b6fee02d8d1a4d7d','mlflow.data.context','training');
CREATE TABLE inputs (
	input_uuid VARCHAR(36) NOT NULL, 
	source_type VARCHAR(36) NOT NULL, 
	source_id VARCHAR(36) NOT NULL, 
	destination_type VARCHAR(36) NOT NULL, 
	destination_id VARCHAR(36) NOT NULL, step BIGINT DEFAULT '0' NOT NULL, 
	CONSTRAINT inputs_pk PRIMARY KEY (source_type, source_id, destination_type, destination_id)
);
INSERT INTO "inputs" VALUES('09a74e57a4cd43e5b6fee02d8d1a4d7d','DATASET','58f38e13ff264e90bcf8dacb89e5b230','RUN','030734a27d0b4a709e935d6739ad8536',0);
CREATE TABLE "latest_metrics" (
	"key" VARCHAR(250) NOT NULL, 
	value FLOAT NOT NULL, 
	timestamp BIGINT, 
	step BIGINT NOT NULL, 
	is_nan BOOLEAN NOT NULL, 
	run_uuid VARCHAR(32) NOT NULL, 
	CONSTRAINT latest_metric_pk PRIMARY KEY ("key", run_uuid), 
	FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid), 
	CHECK (is_nan IN (0, 1))
);
INSERT INTO "latest_metrics" VALUES('loss',0.2,1700000001004,4,0,'030734a27d0b4a709e935d6739ad8536');
INSERT INTO "latest_metrics" VALUES('odd',-1.79769313486231562234e+308,1700000002000,2,0,'030734a27d0b4a709e935d6739ad8536');
INSERT INTO "latest_metrics" VALUES('val/loss',0.25,1700000003000,0,0,'030734a27d0b4a709e935d6739ad8536');
CREATE TABLE "metrics" (
	"key" VARCHAR(250) NOT NULL, 
	value FLOAT NOT NULL, 
	timestamp BIGINT NOT NULL, 
	run_uuid VARCHAR(32) NOT NULL, 
	step BIGINT DEFAULT '0' NOT NULL, 
	is_nan BOOLEAN DEFAULT '0' NOT NULL, 
	CONSTRAINT metric_pk PRIMARY KEY ("key", timestamp, step, run_uuid, value, is_nan), 
	FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid), 
	CHECK (is_nan IN (0, 1))
);
INSERT INTO "metrics" VALUES('loss',1.0,1700000001000,'030734a27d0b4a709e935d6739ad8536',0,0);
INSERT INTO "metrics" VALUES('loss',0.5,1700000001001,'030734a27d0b4a709e935d6739ad8536',1,0);
INSERT INTO "metrics" VALUES('loss',3.33333333333333314829e-01,1700000001002,'030734a27d0b4a709e935d6739ad8536',2,0);
INSERT INTO "metrics" VALUES('loss',0.25,1700000001003,'030734a27d0b4a709e935d6739ad8536',3,0);
INSERT INTO "metrics" VALUES('loss',0.2,1700000001004,'030734a27d0b4a709e935d6739ad8536',4,0);
INSERT INTO "metrics" VALUES('odd',0.0,1700000002000,'030734a27d0b4a709e935d6739ad8536',0,1);
INSERT INTO "metrics" VALUES('odd',1.79769313486231562234e+308,1700000002000,'030734a27d0b4a709e935d6739ad8536',1,0);
INSERT INTO "metrics" VALUES('odd',-1.79769313486231562234e+308,1700000002000,'030734a27d0b4a709e935d6739ad8536',2,0);
INSERT INTO "metrics" VALUES('val/loss',0.5,1700000003000,'030734a27d0b4a709e935d6739ad8536',-1,0);
INSERT INTO "metrics" VALUES('val/loss',0.25,1700000003000,'030734a27d0b4a709e935d6739ad8536',0,0);
CREATE TABLE "model_versions" (
	name VARCHAR(256) NOT NULL, 
	version INTEGER NOT NULL, 
	creation_time BIGINT, 
	last_updated_time BIGINT, 
	description VARCHAR(5000), 
	user_id VARCHAR(256), 
	current_stage VARCHAR(20), 
	source VARCHAR(500), 
	run_id VARCHAR(32), 
	status VARCHAR(20), 
	status_message VARCHAR(500), 
	run_link VARCHAR(500), 
	storage_location VARCHAR(500), 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	CONSTRAINT model_version_pk PRIMARY KEY (workspace, name, version), 
	CONSTRAINT fk_model_versions_registered_models FOREIGN KEY(workspace, name) REFERENCES registered_models (workspace, name) ON UPDATE CASCADE
);
CREATE TABLE "params" (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(8000) NOT NULL, 
	run_uuid VARCHAR(32) NOT NULL, 
	CONSTRAINT param_pk PRIMARY KEY ("key", run_uuid), 
	FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid)
);
INSERT INTO "params" VALUES('optim/lr','0.1','030734a27d0b4a709e935d6739ad8536');
INSERT INTO "params" VALUES('text','two
lines','030734a27d0b4a709e935d6739ad8536');
CREATE TABLE "registered_model_aliases" (
	alias VARCHAR(256) NOT NULL, 
	version INTEGER NOT NULL, 
	name VARCHAR(256) NOT NULL, 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	CONSTRAINT registered_model_alias_pk PRIMARY KEY (workspace, name, alias), 
	CONSTRAINT fk_registered_model_aliases_registered_models FOREIGN KEY(workspace, name) REFERENCES registered_models (workspace, name) ON DELETE CASCADE ON UPDATE CASCADE
);
CREATE TABLE "registered_models" (
	name VARCHAR(256) NOT NULL, 
	creation_time BIGINT, 
	last_updated_time BIGINT, 
	description VARCHAR(5000), 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	CONSTRAINT registered_model_pk PRIMARY KEY (workspace, name)
);
CREATE TABLE "runs" (
	run_uuid VARCHAR(32) NOT NULL, 
	name VARCHAR(250), 
	source_type VARCHAR(20), 
	source_name VARCHAR(500), 
	entry_point_name VARCHAR(50), 
	user_id VARCHAR(256), 
	status VARCHAR(9), 
	start_time BIGINT, 
	end_time BIGINT, 
	source_version VARCHAR(50), 
	lifecycle_stage VARCHAR(20), 
	artifact_uri VARCHAR(200), 
	experiment_id INTEGER, deleted_time BIGINT, 
	CONSTRAINT run_pk PRIMARY KEY (run_uuid), 
	CONSTRAINT source_type CHECK (source_type IN ('NOTEBOOK', 'JOB', 'LOCAL', 'UNKNOWN', 'PROJECT')), 
	CONSTRAINT runs_lifecycle_stage CHECK (lifecycle_stage IN ('active', 'deleted')), 
	FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id), 
	CHECK (status IN ('SCHEDULED', 'FAILED', 'FINISHED', 'RUNNING', 'KILLED'))
);
INSERT INTO "runs" VALUES('09fb3b645bc1402780b98ee3d7fef3f5','sweep','UNKNOWN','','','unknown','FINISHED',1700000000000,1700000010000,'','active','mlflow-artifacts:/taxi/09fb3b645bc1402780b98ee3d7fef3f5/artifacts',1,NULL);
INSERT INTO "runs" VALUES('030734a27d0b4a709e935d6739ad8536','child: a ''quoted'' "name" é','UNKNOWN','','','unknown','FAILED',1700000001000,1700000009000,'','active','mlflow-artifacts:/taxi/030734a27d0b4a709e935d6739ad8536/artifacts',1,NULL);
INSERT INTO "runs" VALUES('309fcbf3505145cb9f90f7ed48203b11','killed','UNKNOWN','','','unknown','KILLED',1700000020000,1700000021000,'','active','mlflow-artifacts:/taxi/309fcbf3505145cb9f90f7ed48203b11/artifacts',1,NULL);
INSERT INTO "runs" VALUES('bc3497e7c8b046dbab8738f52e9a8430','running','UNKNOWN','','','unknown','RUNNING',1700000030000,NULL,'','active','mlflow-artifacts:/taxi/bc3497e7c8b046dbab8738f52e9a8430/artifacts',1,NULL);
INSERT INTO "runs" VALUES('c8fc5169e1bf4b649a2aff37ceac25d0','planned','UNKNOWN','','','unknown','SCHEDULED',1700000040000,NULL,'','active','mlflow-artifacts:/taxi/c8fc5169e1bf4b649a2aff37ceac25d0/artifacts',1,NULL);
INSERT INTO "runs" VALUES('8723c70d93c74968af588da9d8dccced','dropped','UNKNOWN','','','unknown','FINISHED',1700000050000,1700000051000,'','deleted','mlflow-artifacts:/taxi/8723c70d93c74968af588da9d8dccced/artifacts',1,1795178260557);
INSERT INTO "runs" VALUES('c84135abe59e47bfb4a67570cdf52956','in the bin','UNKNOWN','','','unknown','RUNNING',1700000060000,NULL,'','deleted','mlflow-artifacts:/gone/c84135abe59e47bfb4a67570cdf52956/artifacts',2,1795178260568);
CREATE TABLE "tags" (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(8000), 
	run_uuid VARCHAR(32) NOT NULL, 
	CONSTRAINT tag_pk PRIMARY KEY ("key", run_uuid), 
	FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid)
);
INSERT INTO "tags" VALUES('mlflow.runName','sweep','09fb3b645bc1402780b98ee3d7fef3f5');
INSERT INTO "tags" VALUES('mlflow.parentRunId','09fb3b645bc1402780b98ee3d7fef3f5','030734a27d0b4a709e935d6739ad8536');
INSERT INTO "tags" VALUES('mlflow.note.content','The first child','030734a27d0b4a709e935d6739ad8536');
INSERT INTO "tags" VALUES('mlflow.runName','child: a ''quoted'' "name" é','030734a27d0b4a709e935d6739ad8536');
INSERT INTO "tags" VALUES('mlflow.runName','killed','309fcbf3505145cb9f90f7ed48203b11');
INSERT INTO "tags" VALUES('mlflow.runName','running','bc3497e7c8b046dbab8738f52e9a8430');
INSERT INTO "tags" VALUES('mlflow.runName','planned','c8fc5169e1bf4b649a2aff37ceac25d0');
INSERT INTO "tags" VALUES('mlflow.runName','dropped','8723c70d93c74968af588da9d8dccced');
INSERT INTO "tags" VALUES('mlflow.runName','in the bin','c84135abe59e47bfb4a67570cdf52956');
COMMIT;
