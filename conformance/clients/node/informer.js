// Follows Services, Pods and EndpointSlices with makeInformer, and says on demand what it believes there is.
//
//     informer.js SECONDS
//
// SECONDS is how long it stays away when a stream has failed. On standard input, `SUM` asks for one line of JSON: the objects by `resource/name` with their revisions, the events
// that the callbacks saw, and whatever contradicts a faithful stream.
import { createInterface } from 'node:readline';

import { k8s, kubeConfig } from './client.js';

const pause = Number(process.argv[2]) * 1000;
const config = kubeConfig();
const core = config.makeApiClient(k8s.CoreV1Api);
const discovery = config.makeApiClient(k8s.DiscoveryV1Api);
const namespace = 'default';
const sources = {
  services: ['/api/v1/namespaces/default/services', () => core.listNamespacedService({ namespace })],
  pods: ['/api/v1/namespaces/default/pods', () => core.listNamespacedPod({ namespace })],
  endpointslices: [
    '/apis/discovery.k8s.io/v1/namespaces/default/endpointslices',
    () => discovery.listNamespacedEndpointSlice({ namespace }),
  ],
};

const events = [];
const faults = [];
let lists = 0;

function follow(resource, [path, list]) {
  const counted = async () => {
    const answer = await list();
    lists += 1;
    return answer;
  };
  const informer = k8s.makeInformer(config, path, counted);
  const objects = new Map();
  const types = { add: 'ADDED', update: 'MODIFIED', delete: 'DELETED' };
  for (const [verb, type] of Object.entries(types)) {
    informer.on(verb, ({ metadata: { name, resourceVersion } }) => {
      const known = objects.get(name);
      if ((verb === 'add') !== (known === undefined)) faults.push(`${verb} ${resource}/${name}, known at ${known}`);
      if (verb === 'update' && Number(resourceVersion) <= Number(known)) {
        faults.push(`${resource}/${name} goes from ${known} to ${resourceVersion}`);
      }
      if (verb === 'delete') objects.delete(name);
      else objects.set(name, resourceVersion);
      events.push([type, `${resource}/${name}`, resourceVersion]);
    });
  }
  // The library leaves it to its user to start again.
  informer.on('error', () => setTimeout(() => informer.start(), pause));
  return { resource, informer, objects };
}

const followers = Object.entries(sources).map(([resource, source]) => follow(resource, source));
await Promise.all(followers.map(({ informer }) => informer.start()));
console.log('READY');

for await (const line of createInterface({ input: process.stdin })) {
  if (line.trim() !== 'SUM') throw new Error(line);
  const answer = { objects: {}, events, faults: [...faults], lists };
  for (const { resource, informer, objects } of followers) {
    for (const { metadata } of informer.list()) answer.objects[`${resource}/${metadata.name}`] = metadata.resourceVersion;
    if (informer.list().length !== objects.size) answer.faults.push(`${resource}: the cache is not what the callbacks said`);
  }
  console.log(JSON.stringify(answer));
}
process.exit(0);
