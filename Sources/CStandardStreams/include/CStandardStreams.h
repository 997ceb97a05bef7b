#pragma once

// Nothing to call: whatever links this has its standard streams occupied before anything else runs.
