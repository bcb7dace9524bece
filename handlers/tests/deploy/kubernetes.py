"""Checks the manifests of a folder: kubernetes.py FOLDER. Prints what it checked, or what is wrong with them, and then ends with 1.

Kubernetes' own kinds against the schemas that kubernetes-validate carries, strictly: a property that nobody knows is a mistake of
ours. Custom resources against the definitions in FOLDER/crd. kustomization.yaml, for which there is no schema: what it names.
"""

import copy
import pathlib
import sys

import jsonschema
import kubernetes_validate
import yaml

VERSION = "1.33"
KUSTOMIZATION = {"apiVersion", "kind", "namespace", "resources", "images"}


def strict(schema):
    """The same schema, which knows all properties."""
    schema = copy.deepcopy(schema)
    if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        schema.setdefault("additionalProperties", False)
    if "properties" in schema:
        schema["properties"] = {name: strict(inner) for name, inner in schema["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            schema[key] = strict(schema[key])
    return schema


def definitions(folder):
    """By (apiVersion, kind): the schema of a custom resource."""
    found = {}
    for file in sorted((folder / "crd").glob("*.yaml")):
        crd = yaml.safe_load(file.read_text())
        for version in crd["spec"]["versions"]:
            schema = strict(version["schema"]["openAPIV3Schema"])
            schema["properties"]["metadata"] = {"type": "object"}  # as Kubernetes itself checks it
            found[f"{crd['spec']['group']}/{version['name']}", crd["spec"]["names"]["kind"]] = schema
    return found


def problems(folder):
    custom, documents = definitions(folder), []
    for file in sorted(folder.glob("*.yaml")):
        for document in yaml.safe_load_all(file.read_text()):
            documents.append((file.name, document))
    images = {
        container["image"].split(":")[0]
        for _, document in documents
        if document["kind"] == "Deployment"
        for container in document["spec"]["template"]["spec"]["containers"]
    }
    for name, document in documents:
        kind = document["apiVersion"], document["kind"]
        about = f"{name}: {document['kind']} {document.get('metadata', {}).get('name', '')}".strip()
        try:
            if document["kind"] == "Kustomization":
                if unknown := set(document) - KUSTOMIZATION:
                    yield f"{about}: nobody knows {sorted(unknown)}"
                missing = [resource for resource in document["resources"] if not (folder / resource).is_file()]
                missing += [image["name"] for image in document["images"] if image["name"] not in images]
                if missing:
                    yield f"{about}: it names {missing}, which are not there"
            elif kind in custom:
                jsonschema.validate(document, custom[kind])
            else:
                kubernetes_validate.validate(document, VERSION, strict=True)
        except jsonschema.ValidationError as error:
            yield f"{about}: {'/'.join(map(str, error.absolute_path))}: {error.message}"
        except kubernetes_validate.ValidationError as error:
            yield f"{about}: {'/'.join(map(str, error.path))}: {error.message}"
        except kubernetes_validate.SchemaNotFoundError as error:
            yield f"{about}: {error}"
        else:
            print(f"{about}: as it should be")


if __name__ == "__main__":
    found = list(problems(pathlib.Path(sys.argv[1])))
    print("\n".join(found), file=sys.stderr)
    sys.exit(1 if found else 0)
