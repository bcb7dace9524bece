//! OpenAPI 3.1: what the door answers, written from the list of handlers.

use super::{House, answer::Problem};
use crate::{config::Role, worker::BUILD};
use axum::{Json, extract::State, http::HeaderMap};
use serde_json::{Map, Value, json};
use std::sync::Arc;

pub(super) async fn document(State(house): State<Arc<House>>, headers: HeaderMap) -> Result<Json<Value>, Problem> {
    house.admit(Role::Read, &headers)?;
    Ok(Json(house.openapi()))
}

impl House {
    fn openapi(&self) -> Value {
        let mut paths = Map::new();
        for (ty, command) in &self.types.commands {
            let mut schema = command.schema.clone();
            // Definitions keep their place inside this schema; its own dialect would be repeated for nothing.
            if let Some(schema) = schema.as_object_mut() {
                schema.remove("$schema");
            }
            let reference =
                format!("#/paths/~1commands~1{ty}/post/requestBody/content/application~1json/schema/$defs/");
            rebase(&mut schema, &reference);
            paths.insert(format!("/commands/{ty}"), json!({ "post": send(ty, schema) }));
        }
        let id = json!({ "name": "id", "in": "path", "required": true, "description": "The command's ID.",
            "schema": { "type": "string", "minLength": 1 } });
        paths.insert(
            "/commands/{id}".into(),
            json!({ "get": {
                "operationId": "explain", "summary": "Where a message is, why, and what comes next", "parameters": [id],
                "responses": {
                    "200": answer("What is known of it.", json!({ "type": "object", "required": ["id", "state", "reason"] })),
                    "404": problem("It never arrived here."), "401": problem("No token, or an unknown one."),
                    "403": problem("The token has not the role `read`."), "503": problem("Not at work, or the store is away."),
                },
            } }),
        );
        let health = |name: &str, summary: &str, word: &str| {
            let schema = json!({ "type": "object", "required": [word] });
            json!({ "get": { "operationId": name, "summary": summary, "security": [],
                "responses": { "200": answer("Yes.", schema.clone()), "503": answer("No, and why.", schema) } } })
        };
        paths.insert("/livez".into(), health("livez", "Can the process make progress?", "live"));
        paths.insert("/readyz".into(), health("readyz", "Can it be given work?", "ready"));
        paths.insert(
            "/overview".into(),
            json!({ "get": { "operationId": "overview", "summary": "What the page shows",
                "responses": {
                    "200": answer("How it stands.", json!({ "type": "object", "required": ["channels", "retries", "dead", "handlers"] })),
                    "401": problem("No token, or an unknown one."), "403": problem("The token has not the role `read`."),
                    "503": problem("Not at work, or the store is away."),
                } } }),
        );
        paths.insert(
            "/metrics".into(),
            json!({ "get": { "operationId": "metrics", "summary": "Metrics for Prometheus",
                "responses": {
                    "200": { "description": "Prometheus text.", "content": { "text/plain": { "schema": { "type": "string" } } } },
                    "401": problem("No token, or an unknown one."), "403": problem("The token has not the role `read`."),
                } } }),
        );
        let mut document = json!({
            "openapi": "3.1.0",
            "info": { "title": self.types.service, "version": BUILD, "description": "Commands to this service, and what became of them." },
            "paths": paths,
            "components": {
                "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
                "schemas": { "Problem": { "type": "object", "required": ["title", "status", "detail"], "properties": {
                    "title": { "type": "string" }, "status": { "type": "integer" }, "detail": { "type": "string" },
                    "errors": { "type": "array", "items": { "type": "object", "required": ["pointer", "detail"], "properties": {
                        "pointer": { "type": "string" }, "detail": { "type": "string" } } } },
                } } },
            },
        });
        if !self.config.tokens.is_empty() {
            document["security"] = json!([{ "token": [] }]);
        }
        document
    }
}

fn send(ty: &str, schema: Value) -> Value {
    let header = |name: &str, about: &str| {
        json!({ "name": name, "in": "header", "required": false, "description": about,
            "schema": { "type": "string", "pattern": "^[!-~]([ -~]{0,198}[!-~])?$" } })
    };
    let sent = json!({ "type": "object", "required": ["id", "type", "correlationid", "state"], "properties": {
        "id": { "type": "string" }, "type": { "const": ty }, "correlationid": { "type": "string" },
        "state": { "enum": ["waiting", "retrying", "done", "dead"] }, "reason": { "type": ["string", "null"] } } });
    let located = |about: &str| {
        let mut answer = answer(about, sent.clone());
        answer["headers"] =
            json!({ "Location": { "description": "Where to ask what became of it.", "schema": { "type": "string" } } });
        answer
    };
    json!({
        "operationId": format!("send-{ty}"), "summary": format!("Send {ty}"),
        "parameters": [
            header("Idempotency-Key", "The same key with the same payload is the same command; with another payload it is refused."),
            header("ce-subject", "The aggregate that it is about: its ordering key."),
            header("ce-correlationid", "Inherited by everything that follows."),
            { "name": "wait", "in": "query", "required": false, "description": "Wait for the outcome, at most so long.",
                "schema": { "type": "string", "pattern": "^[1-9]ms$" } },
        ],
        "requestBody": { "required": true, "content": { "application/json": { "schema": schema } } },
        "responses": {
            "202": located("It is durable."), "200": located("It is durable and has ended within `wait`."),
            "400": problem("Not JSON, or a header or `wait` that is none."), "401": problem("No token, or an unknown one."),
            "403": problem("The token has not the role `send`."), "409": problem("The Idempotency-Key came with another payload."),
            "413": problem("Too large."), "415": problem("Not application/json."),
            "422": problem("The payload is not of this type; every mistake with its JSON pointer."),
            "503": problem("Not at work, or the store is away."),
        },
    })
}

fn answer(about: &str, schema: Value) -> Value {
    json!({ "description": about, "content": { "application/json": { "schema": schema } } })
}

fn problem(about: &str) -> Value {
    let schema = json!({ "$ref": "#/components/schemas/Problem" });
    json!({ "description": about, "content": { "application/problem+json": { "schema": schema } } })
}

/// References of a schema begin at its own root; in the document that root is elsewhere.
fn rebase(schema: &mut Value, to: &str) {
    match schema {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == "$ref" => {
                        if let Some(rest) = text.strip_prefix("#/$defs/") {
                            *text = format!("{to}{rest}");
                        }
                    }
                    value => rebase(value, to),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rebase(item, to)),
        _ => {}
    }
}
