// That ckpt.h is C++ too. Compiled, not run.
#include "ckpt.h"

int main()
{
    ckpt_ingest_options options = CKPT_INIT(ckpt_ingest_options);
    ckpt_diff_options diff = CKPT_INIT(ckpt_diff_options);
    diff.by = CKPT_BY_LAYER;
    ckpt_tensor tensor = CKPT_INIT(ckpt_tensor);
    auto outputs = CKPT_INIT(ckpt_outputs);
    ckpt_status status = ckpt_snapshot_tensor(nullptr, 0, &tensor);
    return status == CKPT_BAD_HANDLE && options.struct_size == sizeof options && diff.only == nullptr && outputs.samples == nullptr ? 0 : 1;
}
