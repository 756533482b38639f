"""Follows Services, Pods and EndpointSlices, and says on demand what it believes there is.

    informer.py watch SECONDS
    informer.py shared

`watch` lists and then resumes watch.Watch from the last revision whenever a stream ends, and lists again only when the
server answers 410, and stays away for SECONDS when a stream has failed; `shared` is the library's own SharedInformer. On standard input, `SUM` asks for one line of JSON:
the objects by `resource/name` with their revisions, the events that were seen, and whatever contradicts a faithful
stream: an object that is added twice, changed without being known, or older than before.
"""

import json
import logging
import sys
import threading
import time

from kubernetes import client, config, informer, watch
from kubernetes.client.exceptions import ApiException

PAUSE = float(sys.argv[2]) if sys.argv[1] == "watch" else 0


class Believed:
    """What one follower believes; events come from its thread, questions from the main one."""

    def __init__(self, resource):
        self.resource = resource
        self.lock = threading.Lock()
        self.objects, self.events, self.faults, self.lists = {}, [], [], 0
        self.ready = threading.Event()

    def listed(self, items):
        with self.lock:
            self.objects = {o.metadata.name: o.metadata.resource_version for o in items}
            self.lists += 1
        self.ready.set()

    def event(self, kind, obj, strict):
        name, revision = obj.metadata.name, obj.metadata.resource_version
        with self.lock:
            known = self.objects.get(name)
            if strict:
                doubled = kind == "ADDED" and known is not None
                unknown = kind != "ADDED" and known is None
                if doubled or unknown or (known is not None and int(revision) <= int(known)):
                    self.faults.append(f"{kind} {self.resource}/{name} at {revision}, known at {known}")
            if kind == "DELETED":
                self.objects.pop(name, None)
            else:
                self.objects[name] = revision
            self.events.append([kind, f"{self.resource}/{name}", revision])


def follow(list_function, believed):
    """The loop that the library's documentation asks its users to write."""
    revision = None
    while True:
        try:
            if revision is None:
                listed = list_function("default")
                believed.listed(listed.items)
                revision = listed.metadata.resource_version
            stream = watch.Watch()
            try:
                for event in stream.stream(list_function, "default", resource_version=revision, timeout_seconds=3600):
                    believed.event(event["type"], event["object"], strict=True)
            finally:
                revision = stream.resource_version or revision
        except ApiException as e:
            if e.status == 410:
                revision = None
            else:
                time.sleep(PAUSE)
        except Exception:  # whatever a dying server does to a socket
            time.sleep(PAUSE)


def share(list_function, believed):
    """SharedInformer, whose callbacks must tell the same story as its cache."""
    shared = informer.SharedInformer(list_function, namespace="default")
    for kind in ("ADDED", "MODIFIED", "DELETED"):
        shared.add_event_handler(kind, lambda obj, kind=kind: believed.event(kind, obj, strict=False))
    shared.start()
    while shared._resource_version is None:  # the class has no word for "has synced"
        time.sleep(0.05)
    believed.ready.set()

    def cached():
        return {o.metadata.name: o.metadata.resource_version for o in shared.cache.list()}

    believed.cached = cached


def main():
    logging.disable(logging.CRITICAL)
    config.load_kube_config()
    core, discovery = client.CoreV1Api(), client.DiscoveryV1Api()
    sources = {
        "services": core.list_namespaced_service,
        "pods": core.list_namespaced_pod,
        "endpointslices": discovery.list_namespaced_endpoint_slice,
    }
    way = {"watch": follow, "shared": share}[sys.argv[1]]
    followers = []
    for resource, source in sources.items():
        believed = Believed(resource)
        followers.append(believed)
        threading.Thread(target=way, args=(source, believed), daemon=True).start()
    for believed in followers:
        assert believed.ready.wait(60), f"{believed.resource} did not come"
    print("READY")
    for line in sys.stdin:
        assert line.strip() == "SUM", line
        answer = {"objects": {}, "events": [], "faults": [], "lists": 0}
        for believed in followers:
            with believed.lock:
                answer["objects"].update({f"{believed.resource}/{n}": r for n, r in believed.objects.items()})
                answer["events"] += believed.events
                answer["faults"] += believed.faults
                answer["lists"] += believed.lists
                if hasattr(believed, "cached") and believed.cached() != believed.objects:
                    answer["faults"].append(f"{believed.resource}: the cache is not what the callbacks said")
        print(json.dumps(answer))


main()
