// What every output panel says first: which block runs, and the current that the device has confirmed.
import { Unknown } from './age';
import { blockWord } from './format';
import { Shape } from './shape';

/** Nothing while no block runs. */
export function BlockTag({ block, confirmed, blinded = false }: { block: string; confirmed: number | null; blinded?: boolean }) {
  if (block === '') return null;
  return (
    <span class={`tag tag-${block}`}>
      <Shape mark={block === 'stimulate' ? 'stimulate' : 'sense'} /> {blockWord(block, confirmed, blinded)}
    </span>
  );
}

/** `ageS`: of the last report, where nothing is known now. */
export function Confirmed({ ma, ageS }: { ma: number | null; ageS: number | null }) {
  if (ma === null) return <Unknown ageS={ageS} />;
  return (
    <>
      <span class="number">{ma.toFixed(2)}</span> <span class="unit">mA</span> <span class="what">confirmed</span>
    </>
  );
}
