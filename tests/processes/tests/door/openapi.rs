//! OpenAPI: the document is one, and what it says is what a stranger's test client finds.

use super::client::House;
use std::process::Command;

#[tokio::test]
async fn the_document_lists_every_command_with_its_schema() {
    let house = House::small("").await;
    let document = house.get("/openapi.json").await.body;
    assert_eq!(document["openapi"], "3.1.0");
    let schema =
        &document["paths"]["/commands/test.Work"]["post"]["requestBody"]["content"]["application/json"]["schema"];
    assert_eq!(schema["required"][0], "n", "{document}");
    // Every reference leads somewhere.
    let text = document.to_string();
    let references: Vec<&str> = text.split("\"$ref\":\"#").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(references.len() > 10);
    for pointer in references {
        assert!(document.pointer(pointer).is_some(), "{pointer}");
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_nothing_that_the_document_does_not_say() {
    let Some(python) = crate::python::python() else { return };
    let house = House::small("").await;
    let url = format!("{}/openapi.json", house.url);
    let run = move || {
        let mut command = Command::new(python);
        let checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,\
                      negative_data_rejection,response_headers_conformance";
        // Its own program names the folder in which it was installed first.
        command.args(["-c", "from schemathesis.cli import schemathesis; schemathesis()"]);
        command.args(["run", &url, "--checks", checks, "--max-examples", "40", "--seed", "7", "--no-color"]);
        command.args(["--include-path-regex", "car\\.|livez|readyz|overview|metrics|\\{id\\}"]);
        // It keeps a cache where it runs.
        let folder = tempfile::tempdir().expect("a folder");
        command.current_dir(folder.path()).output().expect("schemathesis runs")
    };
    let output = tokio::task::spawn_blocking(run).await.expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("test cases:") || said.contains("Test cases:"), "{said}");
    house.worker.signal("KILL");
    house.shop.close().await;
}
