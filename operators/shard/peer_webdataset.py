"""What webdataset and open_clip make of tars: one json line a sample, for the test beside this file.

Run with webdataset 1.x and open_clip_torch 3.3.0; arguments are tars.
"""

import json
import sys
import types

try:
    import pandas
except ImportError:  # open_clip's module imports it for csv data sets only
    sys.modules["pandas"] = types.ModuleType("pandas")

from open_clip_train.data import group_by_keys_nothrow
from webdataset.tariterators import tar_file_expander, url_opener

for path in sys.argv[1:]:
    members = tar_file_expander(url_opener([{"url": path}]))
    # open_clip's grouping knows no end of a shard: one tar at a time.
    for sample in group_by_keys_nothrow(member for member in members if member):
        key = sample.pop("__key__").encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        sample.pop("__url__")
        kept = {ext: data.hex() for ext, data in sample.items() if isinstance(data, bytes)}
        print(json.dumps({"tar": path, "key": key, "members": kept}))
