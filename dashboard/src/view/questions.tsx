// The screening questions before a session, in plain words; one press says that none of them applies.

/** What blocks stimulation (safety reference, section 2): asked anew before each session. */
const QUESTIONS = [
  'Ever a seizure, or epilepsy',
  'Metal or an implant in or near the head',
  'A pacemaker or another active implant',
  'An opening or a plate in the skull',
  'Broken, sore or burnt skin under the electrodes',
  'Pregnancy, certain or possible, without the clinician’s consent',
  'Bipolar disorder without medicine against mania',
  'Under 18 years old',
  'A medicine, alcohol or another drug begun, changed or stopped since the plan was made',
  'Much less sleep than usual',
];

export function Questions() {
  return (
    <div class="questions">
      <p>
        Does <strong>any</strong> of these apply today to the person who wears the headset?
      </p>
      <ul>
        {QUESTIONS.map((question) => (
          <li key={question}>{question}</li>
        ))}
      </ul>
      <p class="foot">If one applies, or you are not sure: end the session and ask your clinician. Do not guess.</p>
    </div>
  );
}
