// swift-tools-version: 6.2
import PackageDescription

/// Settings every Swift target shares. `Lifetimes` is the flag under which functions may return spans
/// (swift-nio and swift-collections ship with it).
let settings: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableExperimentalFeature("Lifetimes"),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
]

let package = Package(
    name: "ckpt",
    platforms: [.macOS(.v15)],
    products: [
        .executable(name: "ckpt", targets: ["ckpt"]),
        .library(name: "CheckpointStore", targets: ["CheckpointStore"]),
        // Types of theirs stand in the store's own interface: `DType`, `Packing`.
        .library(name: "TensorFormats", targets: ["TensorFormats"]),
        .library(name: "BlockCodec", targets: ["BlockCodec"]),
        .library(name: "CheckpointDiff", targets: ["CheckpointDiff"]),
        .library(name: "LanguageModel", targets: ["LanguageModel"]),
        .library(name: "WeakTraining", targets: ["WeakTraining"]),
        // libckpt: what ckpt.h declares, for C and for Python. `tools/python` gives it that name.
        .library(name: "CkptC", type: .dynamic, targets: ["CkptC"]),
    ],
    dependencies: [
        // SHA-256 with the processor's own instructions, kept by Apple.
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
        // The command line: parsing, help and shell completions.
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    ],
    targets: [
        .systemLibrary(
            name: "CLMDB", pkgConfig: "lmdb",
            providers: [.apt(["liblmdb-dev"]), .brew(["lmdb"])]),
        .systemLibrary(
            name: "CZstd", pkgConfig: "libzstd",
            providers: [.apt(["libzstd-dev"]), .brew(["zstd"])]),
        .systemLibrary(
            name: "CXXHash", pkgConfig: "libxxhash",
            providers: [.apt(["libxxhash-dev"]), .brew(["xxhash"])]),
        .target(name: "CKernels"),

        .target(name: "LMDB", dependencies: ["CLMDB", "CKernels"], swiftSettings: settings),
        .target(name: "TensorFormats", swiftSettings: settings),
        .target(
            name: "BlockCodec", dependencies: ["CZstd", "CKernels", "TensorFormats"],
            swiftSettings: settings),
        .target(
            name: "CheckpointStore",
            dependencies: [
                "LMDB", "BlockCodec", "TensorFormats", "CXXHash", "CKernels",
                .product(name: "Crypto", package: "swift-crypto"),
            ],
            swiftSettings: settings),
        .target(
            name: "CheckpointDiff", dependencies: ["CheckpointStore", "TensorFormats", "CKernels"],
            swiftSettings: settings),
        .target(
            name: "LanguageModel", dependencies: ["CheckpointStore", "TensorFormats", "CKernels"],
            swiftSettings: settings),
        .target(
            name: "WeakTraining", dependencies: ["LanguageModel", "CheckpointStore", "TensorFormats", "CKernels"],
            swiftSettings: settings),
        .target(
            name: "CheckpointReports",
            dependencies: ["CheckpointStore", "CheckpointDiff", "LanguageModel", "WeakTraining", "TensorFormats"],
            swiftSettings: settings),
        .target(name: "CkptABI"),
        .target(
            name: "CkptC",
            dependencies: [
                "CkptABI", "CKernels", "BlockCodec", "CheckpointReports", "CheckpointStore", "CheckpointDiff", "LanguageModel", "WeakTraining", "TensorFormats",
            ],
            swiftSettings: settings),
        .executableTarget(
            name: "ckpt",
            dependencies: [
                "CheckpointReports", "CheckpointStore", "CheckpointDiff", "LanguageModel", "WeakTraining", "BlockCodec", "TensorFormats", "CKernels",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: settings),

        .executableTarget(
            name: "ckpt-bench",
            dependencies: [
                "BlockCodec", "CheckpointStore", "CheckpointDiff", "LanguageModel", "WeakTraining", "TensorFormats", "CKernels",
            ],
            path: "tools/benchmarks/micro", swiftSettings: settings),

        .executableTarget(
            name: "ckpt-tokenize", dependencies: ["LanguageModel"], path: "tools/reference/tokenizers",
            exclude: ["make.py", "check.py", "texts.py", "hostile.py", "variants.py", "speed.py"], swiftSettings: settings),

        // What the pages in the documentation catalogs quote.
        .executableTarget(
            name: "first-store", dependencies: ["CheckpointStore", "CheckpointDiff"], path: "examples/first-store",
            exclude: ["output.txt"], swiftSettings: settings),
        .executableTarget(
            name: "weak-driven", dependencies: ["CheckpointStore", "LanguageModel", "WeakTraining"], path: "examples/weak-driven",
            exclude: ["output.txt"], swiftSettings: settings),

        .target(
            name: "TestSupport", dependencies: ["TensorFormats"], path: "Tests/TestSupport",
            swiftSettings: settings),
        .testTarget(name: "LMDBTests", dependencies: ["LMDB", "TestSupport"], swiftSettings: settings),
        .testTarget(
            name: "TensorFormatsTests", dependencies: ["TensorFormats", "TestSupport"],
            swiftSettings: settings),
        .testTarget(
            name: "BlockCodecTests", dependencies: ["BlockCodec", "CKernels", "TestSupport"],
            swiftSettings: settings),
        .testTarget(
            name: "CheckpointStoreTests",
            dependencies: ["CheckpointStore", "LMDB", "TensorFormats", "BlockCodec", "CKernels", "TestSupport"],
            swiftSettings: settings),
        .testTarget(
            name: "CheckpointDiffTests",
            dependencies: ["CheckpointDiff", "CheckpointStore", "CKernels", "TestSupport"],
            swiftSettings: settings),
        .testTarget(
            name: "LanguageModelTests",
            dependencies: ["LanguageModel", "CheckpointStore", "TensorFormats", "BlockCodec", "CKernels", "TestSupport"],
            swiftSettings: settings),
        .testTarget(
            name: "WeakTrainingTests",
            dependencies: ["WeakTraining", "LanguageModel", "CheckpointStore", "TensorFormats", "TestSupport"],
            swiftSettings: settings),
        .testTarget(
            name: "CkptCTests", dependencies: ["CkptC", "CkptABI", "TensorFormats", "TestSupport"],
            exclude: ["fork.c", "header.cc"], swiftSettings: settings),
        .testTarget(name: "ckptTests", dependencies: ["ckpt", "TensorFormats", "TestSupport"], swiftSettings: settings),
    ]
)
