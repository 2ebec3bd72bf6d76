/** The schemas that have a page of their own, each with the word for it. One row more is one page more. */

import { alignmentPage, alignmentSweepPage, casePage, scrubbingPage } from "./abstraction";
import { armsPage } from "./arms";
import { attackPage } from "./attack";
import { capacityPage } from "./capacity";
import { circuitPage } from "./circuit";
import { classifyPage } from "./classify";
import type { Context, Page } from "./context";
import { descriptionsPage } from "./descriptions";
import { directEffectsPage } from "./directeffects";
import { essentialPage } from "./essential";
import { examPage, experimentPage, experimentsPage } from "./exam";
import { featureCardPage } from "./featurecard";
import { genericPage } from "./generic";
import { headsPage } from "./heads";
import { ioiPage } from "./ioi";
import { lensPage } from "./lens";
import { llcPage } from "./llc";
import { neuronCardPage } from "./neuroncard";
import { neuronsPage } from "./neurons";
import { probePage } from "./probe";
import { stateEditPage, statePage, stateProbePage } from "./state";
import { steeringPage } from "./steering";
import { sweepPage } from "./sweep";
import { timelinePage } from "./timeline";
import { visualisationPage } from "./visualisation";

export interface Kind {
  word: string;
  /** Of the schema that it reads; 1 where nothing is said. */
  version?: string;
  draw(context: Context): Page;
}

const KINDS: Record<string, Kind> = {
  "cutaway.abstraction-case": { word: "alignment", draw: casePage },
  "cutaway.alignment": { word: "alignment", draw: alignmentPage },
  "cutaway.alignment-capacity": { word: "alignment by capacity", version: "2", draw: capacityPage },
  "cutaway.alignment-sweep": { word: "alignment sweep", draw: alignmentSweepPage },
  "cutaway.arm_study": { word: "five arms", draw: armsPage },
  "cutaway.attack": { word: "attack", draw: attackPage },
  "cutaway.circuit": { word: "circuit", draw: circuitPage },
  "cutaway.classify": { word: "classification", draw: classifyPage },
  "cutaway.descriptions": { word: "features", draw: descriptionsPage },
  "cutaway.direct-effects": { word: "direct effects", draw: directEffectsPage },
  "cutaway.essential": { word: "essential dynamics", draw: essentialPage },
  "cutaway.exam": { word: "exam", draw: examPage },
  "cutaway.feature_card": { word: "feature", draw: featureCardPage },
  "cutaway.heads": { word: "heads", draw: headsPage },
  "cutaway.ioi": { word: "indirect objects", draw: ioiPage },
  "cutaway.lens": { word: "lens", draw: lensPage },
  "cutaway.llc": { word: "learning coefficient", draw: llcPage },
  "cutaway.neuron-card": { word: "neuron", draw: neuronCardPage },
  "cutaway.neurons": { word: "neuron survey", draw: neuronsPage },
  "cutaway.probe": { word: "probe", draw: probePage },
  "cutaway.scrubbing": { word: "scrubbing", draw: scrubbingPage },
  "cutaway.state": { word: "state of a world", draw: statePage },
  "cutaway.state-edit": { word: "edits of a state", draw: stateEditPage },
  "cutaway.state-probe": { word: "state of a world", draw: stateProbePage },
  "cutaway.steer": { word: "steering", draw: steeringPage },
  "cutaway.superposition": { word: "toy", draw: experimentPage },
  "cutaway.superposition-several": { word: "toys", draw: experimentsPage },
  "cutaway.sweep": { word: "sweep", draw: sweepPage },
  "cutaway.timeline": { word: "timeline", draw: timelinePage },
  "cutaway.visualisation": { word: "visualisation", draw: visualisationPage },
};

const WORDS: Record<string, string> = { "cutaway.graph": "trace", "cutaway.toy": "toy" };

/** By the schema's name; one that has no page is shown by its evidence, tables and figures. */
export function kindOf(schema: string): Kind {
  const [name = "", version = ""] = schema.split("/");
  if (Object.hasOwn(KINDS, name) && [KINDS[name]!.version ?? "1", ""].includes(version)) return KINDS[name]!;
  const word = Object.hasOwn(WORDS, name) ? WORDS[name]! : name.startsWith("cutaway.") ? name.slice(8).replace(/[-_]/g, " ") : "result";
  return { word, draw: genericPage };
}
