// The age of a number, and what stands in its place when nobody can know it.
import { formatAge } from './format';

export function Age({ ageS }: { ageS: number | null }) {
  return <span class="age">{ageS === null ? 'no age' : `${formatAge(ageS)} ago`}</span>;
}

export function Unknown({ ageS }: { ageS: number | null }) {
  return (
    <span class="unknown">
      Unknown <span class="age">{ageS === null || !Number.isFinite(ageS) ? '– never reported' : `– last report ${formatAge(ageS)} ago`}</span>
    </span>
  );
}
