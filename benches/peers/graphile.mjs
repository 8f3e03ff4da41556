// Graphile Worker: so many jobs with nothing to do, 16 at once, as it comes or with a local queue of so many.
// Given the URL of an empty database, the number of jobs and the size of the local queue (0: none); run in the folder where it is installed.
// Prints jobs a second, from its start to its last job.
import { createRequire } from 'node:module'

const require = createRequire(`${process.cwd()}/`)
const { Logger, makeWorkerUtils, run } = require('graphile-worker')

const [connectionString, jobs, local] = [process.argv[2], ...process.argv.slice(3).map(Number)]
const logger = new Logger(() => () => {})

const utils = await makeWorkerUtils({ connectionString, logger })
await utils.migrate()
const specs = Array.from({ length: jobs }, (_, n) => ({ identifier: 'nothing', payload: { n } }))
for (let at = 0; at < jobs; at += 1000) await utils.addJobs(specs.slice(at, at + 1000))
await utils.release()

const worker = { connectionString, concurrentJobs: 16, maxPoolSize: 20 }
if (local > 0) Object.assign(worker, { localQueue: { size: local }, completeJobBatchDelay: 0, failJobBatchDelay: 0 })
const began = performance.now()
await new Promise((resolve, reject) => {
  let left = jobs
  const nothing = async () => { if (--left === 0) resolve() }
  run({ logger, noHandleSignals: true, preset: { worker }, taskList: { nothing } }).catch(reject)
})
console.log(jobs * 1000 / (performance.now() - began))
process.exit()
