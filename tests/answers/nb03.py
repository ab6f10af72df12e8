"""Answers to the exercises of notebook 03: (check, answer, words of the property it breaks)."""

import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from blvnet_lab.course.exercises import (
    check_bottleneck_macs,
    check_conv_macs,
    check_merge,
    check_stage_forward,
)


def conv_kernel_once(in_channels, out_channels, kernel, height, width, stride=1, groups=1):
    return height * width * kernel * in_channels * out_channels


def conv_counts_the_input(in_channels, out_channels, kernel, height, width, stride=1, groups=1):
    return height * width * kernel**2 * in_channels * out_channels // groups


def conv_rounds_down(in_channels, out_channels, kernel, height, width, stride=1, groups=1):
    pixels = (height // stride) * (width // stride)
    return pixels * kernel**2 * in_channels * out_channels // groups


def conv_stride_once(in_channels, out_channels, kernel, height, width, stride=1, groups=1):
    return height * width // stride * kernel**2 * in_channels * out_channels // groups


def conv_ignores_groups(in_channels, out_channels, kernel, height, width, stride=1, groups=1):
    pixels = math.ceil(height / stride) * math.ceil(width / stride)
    return pixels * kernel**2 * in_channels * out_channels


def conv_divides_twice(in_channels, out_channels, kernel, height, width, stride=1, groups=1):
    whole = conv_ignores_groups(in_channels, out_channels, kernel, height, width, stride)
    return whole // groups**2


def conv_forgets_the_output_channels(
    in_channels, out_channels, kernel, height, width, stride=1, groups=1
):
    return height * width * kernel**2 * in_channels


def conv_rounds_to_the_nearest(
    in_channels, out_channels, kernel, height, width, stride=1, groups=1
):
    pixels = round(height / stride) * round(width / stride)
    return pixels * kernel**2 * in_channels * out_channels // groups


def conv_adds_one_first(in_channels, out_channels, kernel, height, width, stride=1, groups=1):
    sides = [(side + 1) // stride if stride > 1 else side for side in (height, width)]
    return sides[0] * sides[1] * kernel**2 * in_channels * out_channels // groups


def conv_adds_the_rest(in_channels, out_channels, kernel, height, width, stride=1, groups=1):
    sides = [side // stride + side % stride for side in (height, width)]
    return sides[0] * sides[1] * kernel**2 * in_channels * out_channels // groups


def conv_knows_stride_2(in_channels, out_channels, kernel, height, width, stride=1, groups=1):
    sides = [(side + 1) // 2 if stride > 1 else side for side in (height, width)]
    return sides[0] * sides[1] * kernel**2 * in_channels * out_channels // groups


def conv_strides_by_default(in_channels, out_channels, kernel, height, width, stride=2, groups=1):
    return conv_by_loop(in_channels, out_channels, kernel, height, width, stride, groups)


def conv_without_defaults(in_channels, out_channels, kernel, height, width, stride, groups):
    return conv_by_loop(in_channels, out_channels, kernel, height, width, stride, groups)


def conv_by_loop(in_channels, out_channels, kernel, height, width, stride=1, groups=1):
    each = kernel * kernel * in_channels // groups * out_channels
    return sum(each for _ in range(0, height, stride) for _ in range(0, width, stride))


def conv_by_weights(in_channels, out_channels, kernel, height, width, stride=1, groups=1):
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups)
    pixels = conv(torch.zeros(1, in_channels, height, width))[0, 0].numel()
    return pixels * conv.weight.numel()


def bottleneck_full_width(in_channels, channels, height, width, stride=1):
    return conv_macs(in_channels, channels, 1, height, width) + conv_macs(
        channels, channels, 3, height, width, stride
    )


def bottleneck_one_pixel(in_channels, channels, height, width, stride=1):
    return bottleneck_in_one_sum(in_channels, channels, 1, 1, 1)


def bottleneck_without_shortcut(in_channels, channels, height, width, stride=1):
    narrow = channels // 4
    pixels, after = height * width, math.ceil(height / stride) * math.ceil(width / stride)
    return pixels * in_channels * narrow + after * narrow * (9 * narrow + channels)


def bottleneck_quarter_of_the_input(in_channels, channels, height, width, stride=1):
    narrow, after = in_channels // 4, math.ceil(height / stride) * math.ceil(width / stride)
    shortcut = after * in_channels * channels if in_channels != channels else 0
    before = height * width * in_channels * narrow
    return before + after * narrow * (9 * narrow + channels) + shortcut


def bottleneck_shortcut_always(in_channels, channels, height, width, stride=1):
    after = height * width // stride**2
    same = in_channels == channels
    return bottleneck_in_one_sum(in_channels, channels, height, width, stride) + (
        after * channels**2 if same else 0
    )


def bottleneck_stride_first(in_channels, channels, height, width, stride=1):
    return bottleneck_in_one_sum(in_channels, channels, height // stride, width // stride)


def bottleneck_shortcut_before_the_pooling(in_channels, channels, height, width, stride=1):
    extra = height * width * (1 - 1 / stride**2) * in_channels * channels
    macs = bottleneck_in_one_sum(in_channels, channels, height, width, stride)
    return macs + int(extra) * (in_channels != channels)


def conv_macs(in_channels, out_channels, kernel, height, width, stride=1):
    pixels = math.ceil(height / stride) * math.ceil(width / stride)
    return pixels * kernel**2 * in_channels * out_channels


def bottleneck_rounds_down(in_channels, channels, height, width, stride=1):
    narrow, after = channels // 4, (height // stride) * (width // stride)
    shortcut = after * in_channels * channels if in_channels != channels else 0
    before = height * width * in_channels * narrow
    return before + after * narrow * (9 * narrow + channels) + shortcut


def bottleneck_widens_only(in_channels, channels, height, width, stride=1):
    macs = bottleneck_in_one_sum(in_channels, channels, height, width, stride)
    after = math.ceil(height / stride) * math.ceil(width / stride)
    return macs - (after * in_channels * channels if in_channels > channels else 0)


def bottleneck_knows_stride_2(in_channels, channels, height, width, stride=1):
    return bottleneck_in_one_sum(in_channels, channels, height, width, min(stride, 2))


def bottleneck_strides_by_default(in_channels, channels, height, width, stride=2):
    return bottleneck_in_one_sum(in_channels, channels, height, width, stride)


def bottleneck_of_torchvision(in_channels, channels, height, width, stride=1):
    macs = bottleneck_in_one_sum(in_channels, channels, height, width, stride)
    after = math.ceil(height / stride) * math.ceil(width / stride)
    return macs + after * channels**2 * (stride != 1 and in_channels == channels)


def bottleneck_counts_the_averaging(in_channels, channels, height, width, stride=1):
    macs = bottleneck_in_one_sum(in_channels, channels, height, width, stride)
    after = math.ceil(height / stride) * math.ceil(width / stride)
    return macs + 9 * after * in_channels * (stride > 1)


def bottleneck_strides_last(in_channels, channels, height, width, stride=1):
    narrow = channels // 4
    after = math.ceil(height / stride) * math.ceil(width / stride)
    shortcut = after * in_channels * channels if in_channels != channels else 0
    return (
        height * width * narrow * (in_channels + 9 * narrow) + after * narrow * channels + shortcut
    )


def bottleneck_in_one_sum(in_channels, channels, height, width, stride=1):
    narrow, after = channels // 4, math.ceil(height / stride) * math.ceil(width / stride)
    shortcut = after * in_channels * channels if in_channels != channels else 0
    return (
        height * width * in_channels * narrow + after * narrow * (9 * narrow + channels) + shortcut
    )


def bottleneck_counted(in_channels, channels, height, width, stride=1):
    narrow = channels // 4
    x = torch.empty(1, in_channels, height, width, device="meta")
    with FlopCounterMode(display=False) as counter:
        y = nn.Conv2d(in_channels, narrow, 1, device="meta")(x)
        y = nn.Conv2d(narrow, narrow, 3, stride, 1, device="meta")(y)
        nn.Conv2d(narrow, channels, 1, device="meta")(y)
        if in_channels != channels:
            x = F.avg_pool2d(x, 3, stride, 1) if stride > 1 else x
            nn.Conv2d(in_channels, channels, 1, device="meta")(x)
    return counter.get_total_flops() // 2


def merge_without_relu(big, little):
    return F.interpolate(big, size=little.shape[-2:]) + little


def merge_bilinear(big, little):
    return (F.interpolate(big, size=little.shape[-2:], mode="bilinear") + little).relu()


def merge_relu_first(big, little):
    return F.interpolate(big, size=little.shape[-2:]).relu() + little.relu()


def merge_by_factor(big, little):
    big = F.interpolate(big, scale_factor=2)
    return (big[..., : little.shape[-2], :] + little).relu()


def merge_averages(big, little):
    return ((F.interpolate(big, size=little.shape[-2:]) + little) / 2).relu()


def merge_shrinks_little(big, little):
    return (big + F.adaptive_avg_pool2d(little, big.shape[-2:])).relu()


def merge_concatenates(big, little):
    return torch.cat([F.interpolate(big, size=little.shape[-2:]), little], dim=1).relu()


def merge_tiles(big, little):
    height, width = little.shape[-2:]
    return (big.repeat(1, 1, 2, 2)[..., :height, :width] + little).relu()


def merge_by_two(big, little):
    height, width = little.shape[-2:]
    big = big.repeat_interleave(2, dim=-2).repeat_interleave(2, dim=-1)
    return (big[..., :height, :width] + little).clamp(min=0)


def merge_by_halves(big, little):
    rows, columns = (torch.arange(n) // 2 for n in little.shape[-2:])
    return torch.relu(little + big[:, :, rows][..., columns])


def merge_nearest_exact(big, little):
    return (F.interpolate(big, size=little.shape[-2:], mode="nearest-exact") + little).relu()


def merge_area(big, little):
    return (F.interpolate(big, size=little.shape[-2:], mode="area") + little).relu()


def merge_detached(big, little):
    return merge_by_index(big.detach(), little)


def merge_without_gradients(big, little):
    with torch.no_grad():
        return merge_by_index(big, little)


def merge_by_repeats(big, little):
    (height, width), (rows, columns) = little.shape[-2:], big.shape[-2:]
    big = big.repeat_interleave(math.ceil(height / rows), dim=-2)
    big = big.repeat_interleave(math.ceil(width / columns), dim=-1)
    return (big[..., :height, :width] + little).clamp(min=0)


def merge_by_index(big, little):
    rows, columns = (
        torch.arange(little.shape[i]) * big.shape[i] // little.shape[i] for i in (2, 3)
    )
    return torch.relu(little + big[:, :, rows][..., columns])


def stage_little_only(for_little, for_big, little, big, fusion):
    return fusion(little(for_little).relu())


def stage_swapped(for_little, for_big, little, big, fusion):
    return fusion(merge_by_repeats(big(for_little), little(for_big)))


def stage_same_maps(for_little, for_big, little, big, fusion):
    return fusion(merge_by_repeats(big(for_little), little(for_little)))


def stage_without_fusion(for_little, for_big, little, big, fusion):
    return merge_by_repeats(big(for_big), little(for_little))


def stage_relu_last(for_little, for_big, little, big, fusion):
    return fusion(merge_without_relu(big(for_big), little(for_little))).relu()


def stage_fuses_before(for_little, for_big, little, big, fusion):
    merged = merge_by_repeats(big(fusion(for_big)), little(fusion(for_little)))
    return merged


def stage_fuses_twice(for_little, for_big, little, big, fusion):
    x = fusion(merge_by_repeats(big(for_big), little(for_little)))
    return fusion(x)


def stage_by_two(for_little, for_big, little, big, fusion):
    return fusion(merge_by_two(big(for_big), little(for_little)))


def stage_of_the_given_size(for_little, for_big, little, big, fusion):
    z = F.interpolate(big(for_big), size=for_little.shape[-2:], mode="nearest")
    return fusion(torch.relu(little(for_little) + z))


def stage_runs_twice(for_little, for_big, little, big, fusion):
    z = F.interpolate(big(for_big), size=little(for_little).shape[-2:], mode="nearest")
    return fusion(torch.relu(little(for_little) + z))


def stage_without_gradients(for_little, for_big, little, big, fusion):
    with torch.no_grad():
        return stage_by_steps(for_little, for_big, little, big, fusion)


def stage_detaches_big(for_little, for_big, little, big, fusion):
    return fusion(merge_by_index(big(for_big).detach(), little(for_little)))


def stage_by_steps(for_little, for_big, little, big, fusion):
    y = little(for_little)
    z = F.interpolate(big(for_big), size=y.shape[-2:], mode="nearest")
    return fusion(torch.relu(y + z))


def stage_by_index(for_little, for_big, little, big, fusion):
    return fusion(merge_by_index(big(for_big), little(for_little)))


WRONG = [
    (check_conv_macs, conv_kernel_once, "kernel * kernel"),
    (check_conv_macs, conv_counts_the_input, "a quarter of the pixels"),
    (check_conv_macs, conv_rounds_down, "odd sizes are rounded up"),
    (check_conv_macs, conv_stride_once, "a quarter of the pixels"),
    (check_conv_macs, conv_ignores_groups, "in groups"),
    (check_conv_macs, conv_divides_twice, "in groups"),
    (check_conv_macs, conv_forgets_the_output_channels, "every output channel"),
    (check_conv_macs, conv_rounds_to_the_nearest, "odd sizes are rounded up"),
    (check_conv_macs, conv_adds_one_first, "at stride 3"),
    (check_conv_macs, conv_adds_the_rest, "at stride 3"),
    (check_conv_macs, conv_knows_stride_2, "at stride 3"),
    (check_conv_macs, conv_strides_by_default, "are 1 unless they are given"),
    (check_conv_macs, conv_without_defaults, "runs without an error"),
    (check_bottleneck_macs, bottleneck_widens_only, "to fewer too"),
    (check_bottleneck_macs, bottleneck_knows_stride_2, "at stride 3"),
    (check_bottleneck_macs, bottleneck_strides_by_default, "the stride is 1 unless"),
    (check_bottleneck_macs, bottleneck_of_torchvision, "a stride alone needs no 1x1"),
    (check_bottleneck_macs, bottleneck_counts_the_averaging, "the averaging in the shortcut"),
    (check_bottleneck_macs, bottleneck_strides_last, "what follows the stride on a quarter"),
    (check_bottleneck_macs, bottleneck_full_width, "a quarter of the channels"),
    (check_bottleneck_macs, bottleneck_one_pixel, "at every pixel"),
    (check_bottleneck_macs, bottleneck_without_shortcut, "a shortcut that changes them"),
    (check_bottleneck_macs, bottleneck_quarter_of_the_input, "a quarter of the output's channels"),
    (check_bottleneck_macs, bottleneck_shortcut_always, "a shortcut for nothing"),
    (check_bottleneck_macs, bottleneck_rounds_down, "odd sizes are rounded up"),
    (check_bottleneck_macs, bottleneck_stride_first, "the first 1x1 works on the input's pixels"),
    (
        check_bottleneck_macs,
        bottleneck_shortcut_before_the_pooling,
        "the shortcut's 1x1 comes after its pooling",
    ),
    (check_merge, merge_without_relu, "a ReLU ends the merge"),
    (check_merge, merge_bilinear, "nearest"),
    (check_merge, merge_relu_first, "the ReLU comes after the sum"),
    (check_merge, merge_by_factor, "runs without an error"),
    (check_merge, merge_averages, "each pixel of big"),
    (check_merge, merge_shrinks_little, "each pixel of big"),
    (check_merge, merge_concatenates, "the shape is right"),
    (check_merge, merge_tiles, "each pixel of big"),
    (check_merge, merge_by_two, "as large as little stays as it is"),
    (check_merge, merge_by_halves, "as large as little stays as it is"),
    (check_merge, merge_nearest_exact, "of 3 pixels, 2 take the first of 2"),
    (check_merge, merge_area, "of 3 pixels, 2 take the first of 2"),
    (check_merge, merge_detached, "gradients reach big"),
    (check_merge, merge_without_gradients, "gradients reach big"),
    (check_stage_forward, stage_by_two, "as large as the little one is not enlarged"),
    (check_stage_forward, stage_of_the_given_size, "runs without an error"),
    (check_stage_forward, stage_runs_twice, "each part runs once"),
    (check_stage_forward, stage_without_gradients, "gradients reach the little branch"),
    (check_stage_forward, stage_detaches_big, "gradients reach the big branch"),
    (check_stage_forward, stage_little_only, "both branches run"),
    (check_stage_forward, stage_swapped, "each branch gets its own maps"),
    (check_stage_forward, stage_same_maps, "both branches run"),
    (check_stage_forward, stage_without_fusion, "the fusion follows the merge"),
    (check_stage_forward, stage_relu_last, "the fusion follows the merge"),
    (check_stage_forward, stage_fuses_before, "the fusion follows the merge"),
    (check_stage_forward, stage_fuses_twice, "the fusion follows the merge"),
]

RIGHT = [
    (check_conv_macs, conv_by_loop),
    (check_conv_macs, conv_by_weights),
    (check_bottleneck_macs, bottleneck_in_one_sum),
    (check_bottleneck_macs, bottleneck_counted),
    (check_merge, merge_by_repeats),
    (check_merge, merge_by_index),
    (check_stage_forward, stage_by_steps),
    (check_stage_forward, stage_by_index),
]
