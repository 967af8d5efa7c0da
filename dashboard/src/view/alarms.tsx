// Alarms of the selected seat, most urgent first, each with what to do.
import { ageNow, received, reportUnknown } from '../model';
import { formatAge, plainAdvice, plainReason } from './format';
import { Shape } from './shape';

const ORDER = ['high', 'medium', 'low', 'technical'];
const WORDS: Record<string, string> = { high: 'Urgent', medium: 'Attention', low: 'Note', technical: 'Technical' };

export function Alarms() {
  const alarms = [...(received.value?.state.alarms ?? [])].sort((a, b) => ORDER.indexOf(a.priority) - ORDER.indexOf(b.priority));
  return (
    <div class="alarms" aria-live="polite" aria-label="Alarms" role="region">
      {alarms.map((alarm) => (
        <div key={alarm.id} class={`alarm alarm-${alarm.priority}${reportUnknown.value ? ' is-stale' : ''}`}>
          <Shape mark="alarm" />
          <p>
            <strong>
              {WORDS[alarm.priority] ?? 'Alarm'}: {plainReason(alarm.text)}
            </strong>
            {alarm.advice !== '' && <span> {plainAdvice(alarm.text, alarm.advice)}</span>}
          </p>
          <span class="age" aria-hidden="true">
            for {formatAge(ageNow(alarm.age_s))}
          </span>
        </div>
      ))}
    </div>
  );
}
