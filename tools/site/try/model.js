// What the model is; the build writes CONFIG, from the checkpoint.
import { CONFIG } from "./config.js";

export const SIDE = CONFIG.image_size[0]; // pixels
export const PATCH = CONFIG.patch_size; // pixels
export const COLUMNS = SIDE / PATCH; // patches in a row, and rows
export const N = COLUMNS * COLUMNS + 1; // tokens: the class token, then the patches
export const L = CONFIG.depth; // layers
export const H = CONFIG.num_heads;
export const CLASSES = CONFIG.classes;
