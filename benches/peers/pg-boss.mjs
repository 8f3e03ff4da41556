// pg-boss: so many jobs with nothing to do, four workers that fetch 500 at a time.
// Given the URL of an empty database and the number of jobs; run in the folder where it is installed. Prints jobs a second, from its first worker's
// start to its last job.
import { createRequire } from 'node:module'

const PgBoss = createRequire(`${process.cwd()}/`)('pg-boss')

const [connectionString, jobs] = [process.argv[2], Number(process.argv[3])]
const boss = new PgBoss({ connectionString, schedule: false, supervise: false })
boss.on('error', (error) => { throw error })
await boss.start()
await boss.createQueue('nothing')
const waiting = Array.from({ length: jobs }, (_, n) => ({ name: 'nothing', data: { n } }))
for (let at = 0; at < jobs; at += 1000) await boss.insert(waiting.slice(at, at + 1000))

const began = performance.now()
await new Promise((resolve, reject) => {
  let left = jobs
  const nothing = async (some) => { if ((left -= some.length) === 0) resolve() }
  for (let n = 0; n < 4; n++) boss.work('nothing', { batchSize: 500, pollingIntervalSeconds: 0.5 }, nothing).catch(reject)
})
console.log(jobs * 1000 / (performance.now() - began))
process.exit()
