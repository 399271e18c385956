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
INSERT INTO "datasets" VALUES('bbb4749f64c143ea8f9d08846fe035be',1,'rides','abc123','local','{"uri": "rides.csv"}',NULL,NULL);
CREATE TABLE "experiment_tags" (
	"key" VARCHAR(250) NOT NULL, 
	value TEXT, 
	experiment_id INTEGER NOT NULL, 
	CONSTRAINT experiment_tag_pk PRIMARY KEY ("key", experiment_id), 
	FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id)
);
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
INSERT INTO "experiments" VALUES(0,'Default','mlflow-artifacts:/0','active',1795183363723,1795183363723,'default');
INSERT INTO "experiments" VALUES(1,'churn','mlflow-artifacts:/churn','active',1795183363726,1795183363726,'default');
CREATE TABLE input_tags (
	input_uuid VARCHAR(36) NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	value VARCHAR(500) NOT NULL, 
	CONSTRAINT input_tags_pk PRIMARY KEY (input_uuid, name)
);
INSERT INTO "input_tags" VALUES('4a3904db80554f6dbd52da47487b9832','mlflow.data.context','training');
CREATE TABLE inputs (
	input_uuid VARCHAR(36) NOT NULL, 
	source_type VARCHAR(36) NOT NULL, 
	source_id VARCHAR(36) NOT NULL, 
	destination_type VARCHAR(36) NOT NULL, 
	destination_id VARCHAR(36) NOT NULL, step BIGINT DEFAULT '0' NOT NULL, 
	CONSTRAINT inputs_pk PRIMARY KEY (source_type, source_id, destination_type, destination_id)
);
INSERT INTO "inputs" VALUES('4a3904db80554f6dbd52da47487b9832','DATASET','bbb4749f64c143ea8f9d08846fe035be','RUN','ef16d677754d47b2b7a003fc3912f6df',0);
INSERT INTO "inputs" VALUES('327f1110b5934038a45c5920187ff160','RUN_OUTPUT','ef16d677754d47b2b7a003fc3912f6df','MODEL_OUTPUT','m-d3f1272da4504d588f7fd40e807d1b0d',3);
INSERT INTO "inputs" VALUES('e60bc5b1a5294fdeb885c42656051d70','RUN_INPUT','5a16e0b71975473a979517705826afc8','MODEL_INPUT','m-d3f1272da4504d588f7fd40e807d1b0d',0);
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
INSERT INTO "latest_metrics" VALUES('acc',0.5,1700000001000,0,0,'ef16d677754d47b2b7a003fc3912f6df');
INSERT INTO "latest_metrics" VALUES('val',0.75,1700000003000,4,0,'ef16d677754d47b2b7a003fc3912f6df');
CREATE TABLE logged_model_metrics (
	model_id VARCHAR(36) NOT NULL, 
	metric_name VARCHAR(500) NOT NULL, 
	metric_timestamp_ms BIGINT NOT NULL, 
	metric_step BIGINT NOT NULL, 
	metric_value FLOAT, 
	experiment_id INTEGER NOT NULL, 
	run_id VARCHAR(32) NOT NULL, 
	dataset_uuid VARCHAR(36), 
	dataset_name VARCHAR(500), 
	dataset_digest VARCHAR(36), 
	CONSTRAINT logged_model_metrics_pk PRIMARY KEY (model_id, metric_name, metric_timestamp_ms, metric_step, run_id), 
	CONSTRAINT fk_logged_model_metrics_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id), 
	CONSTRAINT fk_logged_model_metrics_model_id FOREIGN KEY(model_id) REFERENCES logged_models (model_id) ON DELETE CASCADE, 
	CONSTRAINT fk_logged_model_metrics_run_id FOREIGN KEY(run_id) REFERENCES runs (run_uuid) ON DELETE CASCADE
);
INSERT INTO "logged_model_metrics" VALUES('m-d3f1272da4504d588f7fd40e807d1b0d','val',1700000003000,4,0.75,1,'ef16d677754d47b2b7a003fc3912f6df',NULL,'rides','abc123');
CREATE TABLE logged_model_params (
	model_id VARCHAR(36) NOT NULL, 
	experiment_id INTEGER NOT NULL, 
	param_key VARCHAR(255) NOT NULL, 
	param_value TEXT NOT NULL, 
	CONSTRAINT logged_model_params_pk PRIMARY KEY (model_id, param_key), 
	CONSTRAINT fk_logged_model_params_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id), 
	CONSTRAINT fk_logged_model_params_model_id FOREIGN KEY(model_id) REFERENCES logged_models (model_id) ON DELETE CASCADE
);
INSERT INTO "logged_model_params" VALUES('m-d3f1272da4504d588f7fd40e807d1b0d',1,'depth','3');
CREATE TABLE logged_model_tags (
	model_id VARCHAR(36) NOT NULL, 
	experiment_id INTEGER NOT NULL, 
	tag_key VARCHAR(255) NOT NULL, 
	tag_value TEXT NOT NULL, 
	CONSTRAINT logged_model_tags_pk PRIMARY KEY (model_id, tag_key), 
	CONSTRAINT fk_logged_model_tags_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id), 
	CONSTRAINT fk_logged_model_tags_model_id FOREIGN KEY(model_id) REFERENCES logged_models (model_id) ON DELETE CASCADE
);
INSERT INTO "logged_model_tags" VALUES('m-d3f1272da4504d588f7fd40e807d1b0d',1,'kind','tree');
CREATE TABLE logged_models (
	model_id VARCHAR(36) NOT NULL, 
	experiment_id INTEGER NOT NULL, 
	name VARCHAR(500) NOT NULL, 
	artifact_location VARCHAR(1000) NOT NULL, 
	creation_timestamp_ms BIGINT NOT NULL, 
	last_updated_timestamp_ms BIGINT NOT NULL, 
	status INTEGER NOT NULL, 
	lifecycle_stage VARCHAR(32), 
	model_type VARCHAR(500), 
	source_run_id VARCHAR(32), 
	status_message VARCHAR(1000), 
	CONSTRAINT logged_models_pk PRIMARY KEY (model_id), 
	CONSTRAINT logged_models_lifecycle_stage_check CHECK (lifecycle_stage IN ('active', 'deleted')), 
	CONSTRAINT fk_logged_models_experiment_id FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id) ON DELETE CASCADE
);
INSERT INTO "logged_models" VALUES('m-d3f1272da4504d588f7fd40e807d1b0d',1,'clf','mlflow-artifacts:/churn/models/m-d3f1272da4504d588f7fd40e807d1b0d/artifacts',1795183363784,1795183363806,2,'active','forest','ef16d677754d47b2b7a003fc3912f6df',NULL);
INSERT INTO "logged_models" VALUES('m-14ce469a6ee14e599c4c24dad668e459',1,'unfinished','mlflow-artifacts:/churn/models/m-14ce469a6ee14e599c4c24dad668e459/artifacts',1795183363834,1795183363834,1,'active',NULL,NULL,NULL);
INSERT INTO "logged_models" VALUES('m-bf0c836ab444424bb88631e5b7d81245',1,'failed','mlflow-artifacts:/churn/models/m-bf0c836ab444424bb88631e5b7d81245/artifacts',1795183363853,1795183363858,3,'active',NULL,NULL,NULL);
INSERT INTO "logged_models" VALUES('m-6ea9fcba21604f11ac9486a4c7995854',1,'in the bin','mlflow-artifacts:/churn/models/m-6ea9fcba21604f11ac9486a4c7995854/artifacts',1795183363863,1795183363878,2,'deleted',NULL,NULL,NULL);
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
INSERT INTO "metrics" VALUES('acc',0.5,1700000001000,'ef16d677754d47b2b7a003fc3912f6df',0,0);
INSERT INTO "metrics" VALUES('val',0.75,1700000003000,'ef16d677754d47b2b7a003fc3912f6df',4,0);
CREATE TABLE "model_version_tags" (
	"key" VARCHAR(250) NOT NULL, 
	value TEXT, 
	name VARCHAR(256) NOT NULL, 
	version INTEGER NOT NULL, 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	CONSTRAINT model_version_tag_pk PRIMARY KEY (workspace, "key", name, version), 
	CONSTRAINT fk_model_version_tags_model_versions FOREIGN KEY(workspace, name, version) REFERENCES model_versions (workspace, name, version) ON UPDATE CASCADE
);
INSERT INTO "model_version_tags" VALUES('checked','yes','churn',1,'default');
INSERT INTO "model_version_tags" VALUES('mlflow.prompt.is_prompt','true','greeting',1,'default');
INSERT INTO "model_version_tags" VALUES('_mlflow_prompt_type','text','greeting',1,'default');
INSERT INTO "model_version_tags" VALUES('mlflow.prompt.text','Say hello to {{name}}','greeting',1,'default');
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
INSERT INTO "model_versions" VALUES('churn',1,1795183363915,1795183363975,'v one',NULL,'Production','runs:/ef16d677754d47b2b7a003fc3912f6df/model','ef16d677754d47b2b7a003fc3912f6df','READY',NULL,NULL,'runs:/ef16d677754d47b2b7a003fc3912f6df/model','default');
INSERT INTO "model_versions" VALUES('churn',2,1795183363926,1795183363926,NULL,NULL,'None','models:/m-d3f1272da4504d588f7fd40e807d1b0d','ef16d677754d47b2b7a003fc3912f6df','READY',NULL,NULL,'mlflow-artifacts:/churn/models/m-d3f1272da4504d588f7fd40e807d1b0d/artifacts','default');
INSERT INTO "model_versions" VALUES('churn',3,1795183363934,1795183363955,NULL,NULL,'Deleted_Internal','REDACTED-SOURCE-PATH','REDACTED-RUN-ID','READY',NULL,'REDACTED-RUN-LINK','s3://elsewhere/mistake','default');
INSERT INTO "model_versions" VALUES('churn',4,1795183363938,1795183363938,NULL,NULL,'None','runs:/ef16d677754d47b2b7a003fc3912f6df/model','ef16d677754d47b2b7a003fc3912f6df','READY',NULL,'https://ci.example/7','runs:/ef16d677754d47b2b7a003fc3912f6df/model','default');
INSERT INTO "model_versions" VALUES('outside',1,1795183364008,1795183364008,NULL,NULL,'None','s3://elsewhere/model',NULL,'READY',NULL,NULL,'s3://elsewhere/model','default');
INSERT INTO "model_versions" VALUES('copied',1,1795183364020,1795183364020,NULL,NULL,'None','models:/churn/2','ef16d677754d47b2b7a003fc3912f6df','READY',NULL,NULL,'mlflow-artifacts:/churn/models/m-d3f1272da4504d588f7fd40e807d1b0d/artifacts','default');
INSERT INTO "model_versions" VALUES('greeting',1,1795183364031,1795183364031,'first words',NULL,'None','dummy-source',NULL,'READY',NULL,NULL,'dummy-source','default');
CREATE TABLE "params" (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(8000) NOT NULL, 
	run_uuid VARCHAR(32) NOT NULL, 
	CONSTRAINT param_pk PRIMARY KEY ("key", run_uuid), 
	FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid)
);
INSERT INTO "params" VALUES('depth','3','ef16d677754d47b2b7a003fc3912f6df');
CREATE TABLE "registered_model_aliases" (
	alias VARCHAR(256) NOT NULL, 
	version INTEGER NOT NULL, 
	name VARCHAR(256) NOT NULL, 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	CONSTRAINT registered_model_alias_pk PRIMARY KEY (workspace, name, alias), 
	CONSTRAINT fk_registered_model_aliases_registered_models FOREIGN KEY(workspace, name) REFERENCES registered_models (workspace, name) ON DELETE CASCADE ON UPDATE CASCADE
);
INSERT INTO "registered_model_aliases" VALUES('champion',2,'churn','default');
INSERT INTO "registered_model_aliases" VALUES('challenger',4,'churn','default');
CREATE TABLE "registered_model_tags" (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(5000), 
	name VARCHAR(256) NOT NULL, 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	CONSTRAINT registered_model_tag_pk PRIMARY KEY (workspace, "key", name), 
	CONSTRAINT fk_registered_model_tags_registered_models FOREIGN KEY(workspace, name) REFERENCES registered_models (workspace, name) ON UPDATE CASCADE
);
INSERT INTO "registered_model_tags" VALUES('team','risk','churn','default');
INSERT INTO "registered_model_tags" VALUES('mlflow.prompt.is_prompt','true','greeting','default');
CREATE TABLE "registered_models" (
	name VARCHAR(256) NOT NULL, 
	creation_time BIGINT, 
	last_updated_time BIGINT, 
	description VARCHAR(5000), 
	workspace VARCHAR(63) DEFAULT 'default' NOT NULL, 
	CONSTRAINT registered_model_pk PRIMARY KEY (workspace, name)
);
INSERT INTO "registered_models" VALUES('churn',1795183363907,1795183363975,'Who leaves: ü
''quoted''','default');
INSERT INTO "registered_models" VALUES('empty model',1795183364002,1795183364002,NULL,'default');
INSERT INTO "registered_models" VALUES('outside',1795183364005,1795183364008,NULL,'default');
INSERT INTO "registered_models" VALUES('copied',1795183364017,1795183364020,NULL,'default');
INSERT INTO "registered_models" VALUES('greeting',1795183364027,1795183364031,'first words','default');
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
	CONSTRAINT runs_lifecycle_stage CHECK (lifecycle_stage IN ('active', 'deleted')), 
	CONSTRAINT source_type CHECK (source_type IN ('NOTEBOOK', 'JOB', 'LOCAL', 'UNKNOWN', 'PROJECT')), 
	FOREIGN KEY(experiment_id) REFERENCES experiments (experiment_id), 
	CHECK (status IN ('SCHEDULED', 'FAILED', 'FINISHED', 'RUNNING', 'KILLED'))
);
INSERT INTO "runs" VALUES('ef16d677754d47b2b7a003fc3912f6df','first','UNKNOWN','','','unknown','FINISHED',1700000000000,1700000010000,'','active','mlflow-artifacts:/churn/ef16d677754d47b2b7a003fc3912f6df/artifacts',1,NULL);
INSERT INTO "runs" VALUES('5a16e0b71975473a979517705826afc8','second','UNKNOWN','','','unknown','FINISHED',1700000050000,1700000060000,'','active','mlflow-artifacts:/churn/5a16e0b71975473a979517705826afc8/artifacts',1,NULL);
CREATE TABLE "tags" (
	"key" VARCHAR(250) NOT NULL, 
	value VARCHAR(8000), 
	run_uuid VARCHAR(32) NOT NULL, 
	CONSTRAINT tag_pk PRIMARY KEY ("key", run_uuid), 
	FOREIGN KEY(run_uuid) REFERENCES runs (run_uuid)
);
INSERT INTO "tags" VALUES('mlflow.runName','first','ef16d677754d47b2b7a003fc3912f6df');
INSERT INTO "tags" VALUES('mlflow.runName','second','5a16e0b71975473a979517705826afc8');
COMMIT;
