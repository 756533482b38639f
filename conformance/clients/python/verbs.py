"""Every verb on every kind, through the typed and the dynamic half of the Python client.

    verbs.py typed|dynamic

KUBECONFIG says where, KINDS what. Each thing that was done and checked is printed as `apiVersion Kind verb`; the first
that goes wrong ends the run.
"""

import json
import os
import re
import sys
import time

from kubernetes import client, config, dynamic
from kubernetes.client.exceptions import ApiException

SELECTOR = "suite=kinds"
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"


def objects(kind):
    """The three objects of a kind as they are sent."""
    for i, name in enumerate(kind["names"]):
        text = json.dumps(kind["object"]).replace("$NAME", name).replace("$I", str(i))
        body = json.loads(text)
        body.update(apiVersion=kind["apiVersion"], kind=kind["kind"])
        body["metadata"] = {"name": name, "labels": {"suite": "kinds"}}
        if kind["namespaced"]:
            body["metadata"]["namespace"] = "default"
        yield body


class Typed:
    """The generated methods: create_namespaced_service, list_node and their like."""

    GROUPS = {
        "v1": client.CoreV1Api,
        "discovery.k8s.io/v1": client.DiscoveryV1Api,
        "networking.k8s.io/v1": client.NetworkingV1Api,
        "coordination.k8s.io/v1": client.CoordinationV1Api,
        "events.k8s.io/v1": client.EventsV1Api,
        "rbac.authorization.k8s.io/v1": client.RbacAuthorizationV1Api,
    }

    def __init__(self, api, kind):
        self.api = api
        self.group = self.GROUPS[kind["apiVersion"]](api)
        self.model = {"v1 Event": "CoreV1Event", "events.k8s.io/v1 Event": "EventsV1Event"}.get(
            "{apiVersion} {kind}".format(**kind), "V1" + kind["kind"])
        snake = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", kind["kind"]).lower()
        self.stem = ("namespaced_" if kind["namespaced"] else "") + snake
        self.place = {"namespace": "default"} if kind["namespaced"] else {}

    def call(self, verb, *args, suffix="", **more):
        answer = getattr(self.group, f"{verb}_{self.stem}{suffix}")(*args, **self.place, **more)
        return self.api.sanitize_for_serialization(answer)

    def typed(self, body):
        return self.api.deserialize(json.dumps(body), self.model, "application/json")

    def create(self, body):
        return self.call("create", body=self.typed(body))

    def read(self, name):
        return self.call("read", name)

    def list(self, **more):
        return self.call("list", **more)

    def replace(self, name, body):
        return self.call("replace", name, body=self.typed(body))

    def patch(self, name, body, content_type, **more):
        return self.call("patch", name, body=body, _content_type=content_type, **more)

    def apply(self, name, body):
        return self.patch(name, body, APPLY_PATCH, field_manager="python", force=True)

    def replace_status(self, name, body):
        return self.call("replace", name, body=self.typed(body), suffix="_status")

    def patch_status(self, name, body):
        return self.call("patch", name, body=body, suffix="_status", _content_type=MERGE_PATCH)

    def delete(self, name):
        return self.call("delete", name, grace_period_seconds=0)

    def delete_collection(self):
        return self.call("delete_collection", label_selector=SELECTOR, grace_period_seconds=0)


class Dynamic:
    """The dynamic client, which finds resources by discovery."""

    def __init__(self, api, kind):
        self.resource = dynamic.DynamicClient(api).resources.get(api_version=kind["apiVersion"], kind=kind["kind"])
        self.place = {"namespace": "default"} if kind["namespaced"] else {}

    def create(self, body):
        return self.resource.create(body=body, **self.place).to_dict()

    def read(self, name):
        return self.resource.get(name=name, **self.place).to_dict()

    def list(self, **more):
        return self.resource.get(**self.place, **more).to_dict()

    def replace(self, name, body):
        return self.resource.replace(body=body, **self.place).to_dict()

    def patch(self, name, body, content_type):
        return self.resource.patch(body=body, name=name, content_type=content_type, **self.place).to_dict()

    def apply(self, name, body):
        return self.resource.server_side_apply(
            body=body, name=name, field_manager="python", force_conflicts=True, **self.place).to_dict()

    def replace_status(self, name, body):
        return self.resource.status.replace(body=body, name=name, **self.place).to_dict()

    def patch_status(self, name, body):
        return self.resource.status.patch(body=body, name=name, content_type=MERGE_PATCH, **self.place).to_dict()

    def delete(self, name):
        return self.resource.delete(name=name, body={"gracePeriodSeconds": 0}, **self.place).to_dict()

    def delete_collection(self):
        return self.resource.delete(label_selector=SELECTOR, body={"gracePeriodSeconds": 0}, **self.place).to_dict()


def pages(api):
    """Every name, one object a page; all pages must tell of one revision."""
    names, revisions, token = [], set(), None
    while True:
        page = api.list(label_selector=SELECTOR, limit=1, **({"_continue": token} if token else {}))
        assert len(page["items"]) == 1, page
        names.append(page["items"][0]["metadata"]["name"])
        revisions.add(page["metadata"]["resourceVersion"])
        token = page["metadata"].get("continue") or page["metadata"].get("_continue")
        if not token:
            assert len(revisions) == 1, revisions
            return names


def gone(api, name):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            api.read(name)
        except ApiException as e:
            assert e.status == 404, e
            return
        time.sleep(0.1)
    raise AssertionError(f"{name} is still there")


def contains(whole, part):
    """Whether a merge patch has had its effect."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(contains(whole.get(k), v) for k, v in part.items())
    if isinstance(part, list):
        return isinstance(whole, list) and len(whole) == len(part) and all(map(contains, whole, part))
    if isinstance(part, str) and re.match(r"\d{4}-\d\d-\d\dT", part):
        # The typed client reads times, and writes them with another zone and another number of digits.
        return isinstance(whole, str) and whole[:19] == part[:19]
    return whole == part


def exercise(api, kind):
    def done(verb):
        print(kind["apiVersion"], kind["kind"], verb)

    first = kind["names"][0]
    for body in objects(kind):
        made = api.create(body)
        assert made["metadata"]["uid"] and made["metadata"]["resourceVersion"], made
        assert made["metadata"]["name"] == body["metadata"]["name"], made
    done("create")

    got = api.read(first)
    assert (got["apiVersion"], got["kind"]) == (kind["apiVersion"], kind["kind"]), got
    assert contains(got, next(objects(kind))), got
    done("read")

    listed = api.list(label_selector=SELECTOR)
    assert [o["metadata"]["name"] for o in listed["items"]] == kind["names"], listed
    assert listed["metadata"]["resourceVersion"], listed
    done("list")

    assert pages(api) == kind["names"]
    done("page")

    got["metadata"]["labels"]["step"] = "update"
    put = api.replace(first, got)
    assert put["metadata"]["labels"]["step"] == "update", put
    try:
        api.replace(first, got)
        raise AssertionError("an update of an old revision was taken")
    except ApiException as e:
        assert e.status == 409 and json.loads(e.body)["reason"] == "Conflict", e
    done("update")

    api.patch(first, [{"op": "replace", "path": "/metadata/labels/step", "value": "json"}], JSON_PATCH)
    assert api.read(first)["metadata"]["labels"]["step"] == "json"
    done("json-patch")

    merged = api.patch(first, kind["merge"], MERGE_PATCH)
    assert contains(merged, kind["merge"]), merged
    done("merge-patch")

    api.patch(first, {"metadata": {"labels": {"step": "strategic"}}}, STRATEGIC_PATCH)
    assert api.read(first)["metadata"]["labels"]["step"] == "strategic"
    done("strategic-patch")

    body = next(objects(kind))
    body["metadata"]["labels"]["step"] = "apply"
    applied = api.apply(first, body)
    assert applied["metadata"]["labels"]["step"] == "apply", applied
    owners = {(f["manager"], f["operation"]) for f in applied["metadata"]["managedFields"]}
    assert ("python", "Apply") in owners, owners
    done("apply")

    if "status" in kind:
        patched = api.patch_status(first, {"status": kind["status"]})
        assert contains(patched["status"], kind["status"]), patched
        put = api.replace_status(first, patched)
        assert contains(put["status"], kind["status"]), put
        done("status")

    api.delete(first)
    gone(api, first)
    done("delete")

    if kind.get("deletecollection", True):
        api.delete_collection()
        done("deletecollection")
    else:
        for name in kind["names"][1:]:
            api.delete(name)
    for name in kind["names"]:
        gone(api, name)


def main():
    config.load_kube_config()
    half = {"typed": Typed, "dynamic": Dynamic}[sys.argv[1]]
    with open(os.environ["KINDS"], encoding="utf-8") as file:
        kinds = json.load(file)
    with client.ApiClient() as api:
        version = client.VersionApi(api).get_code()
        assert version.git_version.startswith("v1."), version
        # A kind without a type in the library has a dynamic half alone.
        for kind in (kind for kind in kinds if half is Dynamic or kind.get("typed", True)):
            exercise(half(api, kind), kind)


main()
