internal import CheckpointStore

/// The chat templates that are known, by the SHA-256 of their text without a line feed at its end.
///
/// Several texts write the same: line feeds in strings are written out or escaped. `tools/reference/chat/make.py` compares
/// each with what its text makes of conversations.
enum KnownChatTemplates {
    static func named(_ hash: ContentID) -> (any ChatTemplate)? { all["\(hash)"] }

    /// Whose text depends on more than the conversation, with the reason.
    static func refusal(_ hash: ContentID) -> String? { unsteady["\(hash)"] }

    private static let unsteady = [
        // Llama 3.2.
        "d82792f95932f1c9cef5c4bd992f171225e3bf8c7b609b4557c9e1ec96be819f": "writes the date of the day into every conversation"
    ]

    static let all: [String: any ChatTemplate] = [
        // Our own, tools/reference/chat/chatml.jinja.
        "10f67cce5827ab492e2708c2a96c9203a17df88ebb53f544bb294fcf6f3905c3": ChatML(),
        // ChatML, as OpenHermes, Hermes and many others ship it; with and without a default for the generation prompt.
        "fcf7a096fe99a48fd9ad2b250bf9237e96e8f48bffec1c7ea4d3f225176cd40e": ChatML(),
        "153280e3ff55d19da1398bdb3914ee2a51b80429bfaedde11d7d216c39db80f3": ChatML(),
        "d7b5b8c7b58f7a6bf868aa46a5f73ee976d7292f40fcb9c3e7a1defd8d235cfb": ChatML(),
        "58c1a1f04baa7adaeaba1f90267c3d57d9396f0c1f0129bdde9e76d3c6784af7": ChatML(),
        // Qwen2.
        "f0206845c9ebc3abb4735d44f286eb81ce99238ad2accc710c6fc60e6cb8ccc8": ChatML(system: "You are a helpful assistant."),
        "793202280c0910ab26bc6eb57c8212c2417324c6d8c4efd0d10d59092ab3e3eb": ChatML(system: "You are a helpful assistant."),
        // Qwen2.5.
        "55b2f4a26ac9ee719330a61a0c39d9e538b0e9322212f048326318cff4f8674a": ChatML(system: "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."),
        // SmolLM2.
        "de9cde7d1b0ca0cc87459a6673e0d12fb89c070bdb24e4a30b6e4d187b226221": ChatML(system: "You are a helpful AI assistant named SmolLM, trained by Hugging Face"),
        "872be49dbb638044ad01b60388f48d469ff2980e5f0dccdc22ec907db54d0788": ChatML(system: "You are a helpful AI assistant named SmolLM, trained by Hugging Face"),
        // Qwen3, two revisions.
        "a55ee1b1660128b7098723e0abcd92caa0788061051c62d51cbe87d9cf1974d8": Qwen3Chat(),
        "87a2728cb8dc9fe424d624542f6060ec05a1d285ebbec578bb078900e33396b5": Qwen3Chat(),
        // Qwen3 Instruct 2507.
        "64f85b198065d0fba2a81f37e10ed68161ce2c19a754c7100e67e0ca2ee9c326": ChatML(),
        // Llama 3.
        "ba03a121d097859c7b5b9cd03af99aafe95275210d2876f642ad9929a150f122": Llama3Chat(),
        // Llama 3.1 and 3.3.
        "93c0e9aa3629bbd77e68dbc0f5621f6e6b23aa8d74b932595cdb8d64684526d7": Llama3Chat(dates: "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"),
        // Gemma and Gemma 2.
        "ecd6ae513fe103f0eb62e8ab5bfa8d0fe45c1074fa398b089c93a7e70c15cfd6": GemmaChat(takesSystem: false),
        // Gemma 3.
        "8d9e3a3c114fb2053ec500184677af4f7e5f8ec2582443cd535834e68b3ade29": GemmaChat(takesSystem: true),
        // Mistral 7B Instruct 0.1.
        "7e995b379ec01747807246483647cd99030abf331653f1119e16d7ac041a3495": InstructChat.mistral01,
        // Mistral 7B Instruct 0.2, Mixtral.
        "26a59556925c987317ce5291811ba3b7f32ec4c647c400c6cc7e3a9993007ba7": InstructChat.mistral02,
        // The same with a system prompt.
        "bbc58aad99454df60138be9530c9601a0adfe3d8932cda975e1f10b2410ddc51": InstructChat.mistral1,
        // Mistral 7B Instruct 0.3, Mistral Large 2407: their text as others quote it.
        "cafb64e0e9e5fd2503054b3479593fae39cbdfd52338ce8af9bb4664a8eb05bd": InstructChat.mistral3,
        // Mistral Nemo.
        "e7deee034838db2bfc7487788a3013d8a307ab69f72f3c54a85f06fd76007d4e": InstructChat.mistralTekken,
        // Llama 2: its text as others quote it, not taken from a model.
        "e8d5b5a546d3f19df16a5320c614fab05bdc4edd50e850f1afd947b503ea41cf": InstructChat.llama2,
        "9780fae5bfea3cfd7be37d328c6edfd296a8869be8131495bbe7eb37e780c88c": InstructChat.llama2,
        // Tulu 3: OLMo 2's text without the beginning of sequence.
        "d8bf178393df62d7be294ce102976a4b415a9312270007fcd9abd8776048afe2": TaggedChat(),
        "ac7498a36a719da630e99d48e6ebc4409de85a77556c2b6159eeb735bcbd11df": TaggedChat(),
        // OLMo 2.
        "a3fff33b9c6fb5c804dab4d85d06d33452e646ec1e038b1b29f170569e2f0380": TaggedChat(begins: true),
        "fe689ffbd6a4e2d0532d7480696b065b10e0e1eff3f9b9fc4bea415761e4bf4a": TaggedChat(begins: true),
        // Zephyr, TinyLlama.
        "4f39e3a4b9e3d369b42fd00d93a78f171914bb4e58ec84fc420433d7a153288a": TaggedChat(endsAll: true),
    ]
}
