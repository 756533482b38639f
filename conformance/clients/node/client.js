// Loads the Node client from where scripts/install-deps put it: a module is looked for beside the file that asks for it,
// and this one is not there.
import { createRequire } from 'node:module';
import { join } from 'node:path';

export const k8s = createRequire(join(process.env.NODE_HOME, 'package.json'))('@kubernetes/client-node');

export function kubeConfig() {
  const config = new k8s.KubeConfig();
  config.loadFromDefault();
  return config;
}
