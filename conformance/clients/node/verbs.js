// Every verb on every kind, through the typed and the dynamic half of the Node client.
//
//     verbs.js typed|dynamic
//
// KUBECONFIG says where, KINDS what. Each thing that was done and checked is printed as `apiVersion Kind verb`; the
// first that goes wrong ends the run.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

import { k8s, kubeConfig } from './client.js';

const SELECTOR = 'suite=kinds';
const { PatchStrategy } = k8s;

/** The three objects of a kind as they are sent. */
function objects(kind) {
  return kind.names.map((name, i) => {
    const text = JSON.stringify(kind.object).replaceAll('$NAME', name).replaceAll('$I', String(i));
    const metadata = { name, labels: { suite: 'kinds' } };
    if (kind.namespaced) metadata.namespace = 'default';
    return { apiVersion: kind.apiVersion, kind: kind.kind, metadata, ...JSON.parse(text) };
  });
}

/** The generated methods: createNamespacedService, listNode and their like. */
class Typed {
  static groups = {
    v1: k8s.CoreV1Api,
    'discovery.k8s.io/v1': k8s.DiscoveryV1Api,
    'networking.k8s.io/v1': k8s.NetworkingV1Api,
    'coordination.k8s.io/v1': k8s.CoordinationV1Api,
    'events.k8s.io/v1': k8s.EventsV1Api,
    'rbac.authorization.k8s.io/v1': k8s.RbacAuthorizationV1Api,
  };

  constructor(config, kind) {
    this.group = config.makeApiClient(Typed.groups[kind.apiVersion]);
    this.stem = (kind.namespaced ? 'Namespaced' : '') + kind.kind;
    this.place = kind.namespaced ? { namespace: 'default' } : {};
  }

  call(verb, params, options, suffix = '') {
    return this.group[verb + this.stem + suffix]({ ...this.place, ...params }, options);
  }

  // Times are dates in a typed object, so what came as JSON is read as the client reads YAML.
  typed(body) {
    return k8s.loadYaml(JSON.stringify(body));
  }

  create(body) {
    return this.call('create', { body: this.typed(body) });
  }

  read(name) {
    return this.call('read', { name });
  }

  list(params) {
    return this.call('list', { labelSelector: SELECTOR, ...params });
  }

  replace(name, body) {
    return this.call('replace', { name, body });
  }

  patch(name, body, strategy) {
    return this.call('patch', { name, body }, k8s.setHeaderOptions('Content-Type', strategy));
  }

  apply(name, body) {
    const options = k8s.setHeaderOptions('Content-Type', PatchStrategy.ServerSideApply);
    return this.call('patch', { name, body, fieldManager: 'node', force: true }, options);
  }

  patchStatus(name, body) {
    return this.call('patch', { name, body }, k8s.setHeaderOptions('Content-Type', PatchStrategy.MergePatch), 'Status');
  }

  replaceStatus(name, body) {
    return this.call('replace', { name, body }, undefined, 'Status');
  }

  delete(name) {
    return this.call('delete', { name, gracePeriodSeconds: 0 });
  }

  deleteCollection() {
    const scope = this.stem.startsWith('Namespaced') ? 'CollectionNamespaced' : 'Collection';
    const method = `delete${scope}${this.stem.replace('Namespaced', '')}`;
    return this.group[method]({ ...this.place, labelSelector: SELECTOR, gracePeriodSeconds: 0 });
  }
}

/** CustomObjectsApi, for a kind that the library has no type of: what KubernetesObjectApi cannot do. */
class Custom {
  constructor(config, kind) {
    this.api = config.makeApiClient(k8s.CustomObjectsApi);
    const [group, version] = kind.apiVersion.split('/');
    this.place = { group, version, plural: kind.plural };
  }

  list(params) {
    return this.api.listClusterCustomObject({ ...this.place, labelSelector: SELECTOR, ...params });
  }

  patch(name, body, strategy) {
    const options = k8s.setHeaderOptions('Content-Type', strategy);
    return this.api.patchClusterCustomObject({ ...this.place, name, body }, options);
  }

  patchStatus(name, body) {
    const options = k8s.setHeaderOptions('Content-Type', PatchStrategy.MergePatch);
    return this.api.patchClusterCustomObjectStatus({ ...this.place, name, body }, options);
  }

  replaceStatus(name, body) {
    return this.api.replaceClusterCustomObjectStatus({ ...this.place, name, body });
  }

  deleteCollection() {
    const params = { ...this.place, labelSelector: SELECTOR, gracePeriodSeconds: 0 };
    return this.api.deleteCollectionClusterCustomObject(params);
  }
}

/** KubernetesObjectApi, which finds resources by discovery. It has no status and no deletecollection of its own. */
class Dynamic {
  constructor(config, kind) {
    this.api = k8s.KubernetesObjectApi.makeApiClient(config);
    this.typed = kind.typed === false ? new Custom(config, kind) : new Typed(config, kind);
    this.kind = kind;
  }

  named(name, more = {}) {
    const metadata = { name, ...(this.kind.namespaced ? { namespace: 'default' } : {}), ...more.metadata };
    return { apiVersion: this.kind.apiVersion, kind: this.kind.kind, ...more, metadata };
  }

  create(body) {
    return this.api.create(body);
  }

  read(name) {
    return this.api.read(this.named(name));
  }

  list({ limit, _continue } = {}) {
    // The library has no type by the name of core Events' list, nor of our own, and reads one without its continue token.
    if (limit && (this.kind.kind === 'Event' || this.kind.typed === false)) return this.typed.list({ limit, _continue });
    const place = this.kind.namespaced ? 'default' : undefined;
    return this.api.list(this.kind.apiVersion, this.kind.kind, place, undefined, undefined, undefined, undefined, SELECTOR,
      limit, _continue);
  }

  replace(_name, body) {
    return this.api.replace(body);
  }

  // The library finds the path from the object in the body, so a list of operations goes the typed way.
  patch(name, body, strategy) {
    if (Array.isArray(body)) return this.typed.patch(name, body, strategy);
    return this.api.patch(this.named(name, body), undefined, undefined, undefined, undefined, strategy);
  }

  apply(name, body) {
    return this.api.patch(body, undefined, undefined, 'node', true, PatchStrategy.ServerSideApply);
  }

  patchStatus(name, body) {
    return this.typed.patchStatus(name, body);
  }

  replaceStatus(name, body) {
    return this.typed.replaceStatus(name, body);
  }

  delete(name) {
    return this.api.delete(this.named(name), undefined, undefined, 0);
  }

  deleteCollection() {
    return this.typed.deleteCollection();
  }
}

/** Every name, one object a page; all pages must tell of one revision. */
async function pages(api) {
  const names = [];
  const revisions = new Set();
  let token;
  do {
    const page = await api.list({ limit: 1, _continue: token });
    assert.equal(page.items.length, 1);
    names.push(page.items[0].metadata.name);
    revisions.add(page.metadata.resourceVersion);
    token = page.metadata._continue ?? page.metadata.continue;
  } while (token);
  assert.equal(revisions.size, 1);
  return names;
}

async function gone(api, name) {
  const deadline = Date.now() + 60_000;
  while (Date.now() < deadline) {
    try {
      await api.read(name);
    } catch (e) {
      assert.equal(e.code, 404);
      return;
    }
    await sleep(100);
  }
  throw new Error(`${name} is still there`);
}

/** Whether a merge patch has had its effect. Times are compared to the second: the client makes dates of them. */
function contains(whole, part) {
  if (whole instanceof Date) return whole.toISOString().slice(0, 19) === String(part).slice(0, 19);
  if (Array.isArray(part)) return whole?.length === part.length && part.every((p, i) => contains(whole[i], p));
  if (part && typeof part === 'object') return !!whole && Object.entries(part).every(([k, v]) => contains(whole[k], v));
  if (typeof part === 'string' && /^\d{4}-\d\d-\d\dT/.test(part)) return whole?.slice(0, 19) === part.slice(0, 19);
  return whole === part;
}

function check(whole, part) {
  assert.ok(contains(whole, part), `${JSON.stringify(whole)} lacks ${JSON.stringify(part)}`);
}

async function exercise(api, kind) {
  const done = (verb) => console.log(kind.apiVersion, kind.kind, verb);
  const [first] = kind.names;

  for (const body of objects(kind)) {
    const made = await api.create(body);
    assert.ok(made.metadata.uid && made.metadata.resourceVersion);
    assert.equal(made.metadata.name, body.metadata.name);
  }
  done('create');

  const got = await api.read(first);
  check(got, objects(kind)[0]);
  done('read');

  const listed = await api.list();
  assert.deepEqual(listed.items.map((o) => o.metadata.name), kind.names);
  assert.ok(listed.metadata.resourceVersion);
  done('list');

  assert.deepEqual(await pages(api), kind.names);
  done('page');

  got.metadata.labels.step = 'update';
  const put = await api.replace(first, got);
  assert.equal(put.metadata.labels.step, 'update');
  await assert.rejects(api.replace(first, got), { code: 409 });
  done('update');

  await api.patch(first, [{ op: 'replace', path: '/metadata/labels/step', value: 'json' }], PatchStrategy.JsonPatch);
  assert.equal((await api.read(first)).metadata.labels.step, 'json');
  done('json-patch');

  check(await api.patch(first, kind.merge, PatchStrategy.MergePatch), kind.merge);
  done('merge-patch');

  await api.patch(first, { metadata: { labels: { step: 'strategic' } } }, PatchStrategy.StrategicMergePatch);
  assert.equal((await api.read(first)).metadata.labels.step, 'strategic');
  done('strategic-patch');

  const body = objects(kind)[0];
  body.metadata.labels.step = 'apply';
  const applied = await api.apply(first, body);
  assert.equal(applied.metadata.labels.step, 'apply');
  assert.ok(applied.metadata.managedFields.some((f) => f.manager === 'node' && f.operation === 'Apply'));
  done('apply');

  if (kind.status) {
    const patched = await api.patchStatus(first, { status: kind.status });
    check(patched.status, kind.status);
    check((await api.replaceStatus(first, patched)).status, kind.status);
    done('status');
  }

  await api.delete(first);
  await gone(api, first);
  done('delete');

  if (kind.deletecollection ?? true) {
    await api.deleteCollection();
    done('deletecollection');
  } else {
    for (const name of kind.names.slice(1)) await api.delete(name);
  }
  for (const name of kind.names) await gone(api, name);
}

const config = kubeConfig();
const half = { typed: Typed, dynamic: Dynamic }[process.argv[2]];
const version = await config.makeApiClient(k8s.VersionApi).getCode();
assert.match(version.gitVersion, /^v1\./);
for (const kind of JSON.parse(readFileSync(process.env.KINDS, 'utf8'))) {
  // A kind without a type in the library has a dynamic half alone.
  if (half === Typed && kind.typed === false) continue;
  await exercise(new half(config, kind), kind);
}
