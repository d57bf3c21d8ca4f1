// libtorch's wheel holds gloo's code but not its headers. These five declare what c10d's header names of it, and no more.
#pragma once
