import * as tf from "@tensorflow/tfjs";
import fs from "node:fs";
import path from "node:path";
const here = process.argv[2];
await tf.setBackend("cpu");
function keep(name) {
  return tf.io.withSaveHandler(async (artifacts) => {
    const weights = path.join(here, `${name}.bin`);
    fs.writeFileSync(weights, Buffer.from(artifacts.weightData));
    const manifest = [{ paths: [`${name}.bin`], weights: artifacts.weightSpecs }];
    const { modelTopology, format, generatedBy, convertedBy } = artifacts;
    fs.writeFileSync(path.join(here, `${name}.json`),
      JSON.stringify({ modelTopology, format, generatedBy, convertedBy, weightsManifest: manifest }));
    return { modelArtifactsInfo: { dateSaved: new Date(0), modelTopologyType: "JSON" } };
  });
}
let seed = 1;
const random = () => { seed = (seed * 48271) % 2147483647; return seed / 2147483647 - 0.5; };
const numbers = (shape) => tf.tensor(Array.from({ length: shape.reduce((a, b) => a * b, 1) }, random), shape);
async function record(name, layers) {
  const model = tf.sequential({ layers });
  model.setWeights(model.getWeights().map((w) => numbers(w.shape)));
  await model.save(keep(name));
  const x = numbers([2, 5, 3]);
  const y = model.predict(x);
  fs.writeFileSync(path.join(here, `${name}.expected.json`), JSON.stringify({ x: await x.array(), y: await y.array() }));
}
await record("sigmoid", [
  tf.layers.gru({ units: 4, inputShape: [5, 3], returnSequences: true, recurrentActivation: "sigmoid", name: "low" }),
  tf.layers.bidirectional({ layer: tf.layers.lstm({ units: 2, returnSequences: true, recurrentActivation: "sigmoid" }), mergeMode: "concat", name: "both" }),
  tf.layers.dense({ units: 3, name: "head" }),
  tf.layers.simpleRNN({ units: 2, returnSequences: true, name: "top" }),
]);
await record("default", [tf.layers.lstm({ units: 2, inputShape: [5, 3], returnSequences: true })]);
